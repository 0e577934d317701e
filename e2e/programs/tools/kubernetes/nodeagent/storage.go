package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	provisioner            = "octavo.dev/node-folder"
	volumesFolder          = "/var/local/octavo-volumes"
	selectedNodeAnnotation = "volume.kubernetes.io/selected-node"
	provisionedAnnotation  = "pv.kubernetes.io/provisioned-by"
	nodeAnnotation         = "octavo.dev/node"
)

// reconcileStorage gives each claim that the scheduler assigned to this node a folder here, and
// removes the folders of volumes that were released. As with kind's own provisioner the folder is
// open to every user, because the kubelet sets no owner on host paths.
func reconcileStorage(ctx context.Context, client kubernetes.Interface, self string) error {
	classes, err := ourClasses(ctx, client)
	if err != nil {
		return err
	}
	claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var failures []error
	for _, claim := range claims.Items {
		class, ours := classes[className(claim)]
		if !ours || claim.Status.Phase != corev1.ClaimPending || claim.Spec.VolumeName != "" ||
			claim.Annotations[selectedNodeAnnotation] != self {
			continue
		}
		failures = append(failures, provision(ctx, client, claim, class, self))
	}
	volumes, err := client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, volume := range volumes.Items {
		if volume.Annotations[nodeAnnotation] == self && volume.Status.Phase == corev1.VolumeReleased &&
			volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			failures = append(failures, remove(ctx, client, volume))
		}
	}
	return errors.Join(failures...)
}

func ourClasses(ctx context.Context, client kubernetes.Interface) (map[string]storagev1.StorageClass, error) {
	listed, err := client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	classes := map[string]storagev1.StorageClass{}
	for _, class := range listed.Items {
		if class.Provisioner == provisioner {
			classes[class.Name] = class
		}
	}
	return classes, nil
}

func className(claim corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}

func provision(ctx context.Context, client kubernetes.Interface, claim corev1.PersistentVolumeClaim,
	class storagev1.StorageClass, self string) error {
	name := "pvc-" + string(claim.UID)
	folder := filepath.Join(volumesFolder, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // MkdirAll applies the umask
		return err
	}
	kind := corev1.HostPathDirectory
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionedAnnotation: provisioner, nodeAnnotation: self},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			StorageClassName:              class.Name,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{self},
					}},
				}},
			}},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: folder, Type: &kind},
			},
		},
	}
	if class.ReclaimPolicy != nil {
		volume.Spec.PersistentVolumeReclaimPolicy = *class.ReclaimPolicy
	}
	_, err := client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		log.Printf("storage: %s for %s/%s", folder, claim.Namespace, claim.Name)
	}
	return err
}

func remove(ctx context.Context, client kubernetes.Interface, volume corev1.PersistentVolume) error {
	folder := filepath.Join(volumesFolder, volume.Name)
	if volume.Spec.HostPath == nil || volume.Spec.HostPath.Path != folder {
		return fmt.Errorf("volume %s is not a folder of ours: %s", volume.Name, volume.Spec.HostPath)
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	log.Printf("storage: removed %s", folder)
	return client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
}
