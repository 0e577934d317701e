// nodeagent is what a node image of our own needs on every node beside Kubernetes: a pod network
// (network.go) and volumes (storage.go). kind's own parts for this are published as images only.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const period = time.Second

func main() {
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	self, podSubnet := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")
	for ; ; time.Sleep(period) {
		for name, reconcile := range map[string]func(context.Context) error{
			"network": func(ctx context.Context) error { return reconcileNetwork(ctx, client, self, podSubnet) },
			"storage": func(ctx context.Context) error { return reconcileStorage(ctx, client, self) },
		} {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := reconcile(ctx); err != nil {
				log.Printf("%s: %v", name, err)
			}
			cancel()
		}
	}
}
