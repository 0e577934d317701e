package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	configurationPath = "/etc/cni/net.d/10-octavo.conflist"
	configuration     = `{
  "cniVersion": "1.0.0",
  "name": "octavo",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "ranges": [[{"subnet": "%s"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`
)

// reconcileNetwork writes this node's CNI configuration from .spec.podCIDR, keeps a route to each
// other node's pods and masquerades what leaves the pod network. All nodes share one bridge.
// It does not enforce NetworkPolicy.
func reconcileNetwork(ctx context.Context, client kubernetes.Interface, self, podSubnet string) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if node.Spec.PodCIDR == "" {
			continue // the controller-manager has not given it a range yet
		}
		if node.Name == self {
			err = writeConfiguration(node.Spec.PodCIDR)
		} else {
			err = routeTo(node)
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
	}
	return masquerade(podSubnet)
}

func writeConfiguration(podCIDR string) error {
	wanted := fmt.Sprintf(configuration, podCIDR)
	if found, err := os.ReadFile(configurationPath); err == nil && string(found) == wanted {
		return nil
	}
	temporary := configurationPath + ".tmp"
	if err := os.WriteFile(temporary, []byte(wanted), 0o644); err != nil {
		return err
	}
	log.Println("pod network", podCIDR)
	return os.Rename(temporary, configurationPath)
}

// routeTo sends the node's pod range to its InternalIP. A node that has none, or one outside the
// bridge, is a Node object made by hand: nothing runs there, so it must not stop the others.
func routeTo(node corev1.Node) error {
	_, podRange, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil {
		return err
	}
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if gateway := net.ParseIP(address.Address).To4(); gateway != nil {
			if err := netlink.RouteReplace(&netlink.Route{Dst: podRange, Gw: gateway}); err != nil {
				log.Printf("network: no route to %s via %s: %v", podRange, gateway, err)
			}
		}
	}
	return nil
}

var isMasqueraded bool

func masquerade(podSubnet string) error {
	if isMasqueraded { // the rule lives as long as the node's network namespace, which we never outlive
		return nil
	}
	rule := []string{"POSTROUTING", "-s", podSubnet, "!", "-d", podSubnet,
		"-m", "comment", "--comment", "octavo pod network", "-j", "MASQUERADE"}
	if exec.Command("iptables", append([]string{"-w", "-t", "nat", "-C"}, rule...)...).Run() == nil {
		isMasqueraded = true
		return nil
	}
	output, err := exec.Command("iptables", append([]string{"-w", "-t", "nat", "-A"}, rule...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("masquerade: %w: %s", err, output)
	}
	isMasqueraded = true
	return nil
}
