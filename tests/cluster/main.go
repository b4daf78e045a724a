// Command cluster is the control plane that filmgate's tests run against:
// etcd and the Kubernetes components, compiled from their own modules into one
// binary. The first argument names the component, the rest are its own flags.
//
//	cluster etcd --data-dir=DIR --client-url=URL --peer-url=URL
//	cluster keygen FILE
//	cluster kube-apiserver ...
//
// One binary instead of five because they share nearly all of their code:
// linking it once halves the build and the disk space.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components maps a name to the constructor of its command. Only the one that
// was asked for is constructed: constructing the API server's installs signal
// handlers, and each registers its flags in process-wide places.
var components = map[string]func() *cobra.Command{
	"etcd":                    newEtcdCommand,
	"keygen":                  newKeygenCommand,
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	construct, known := components[os.Args[1]]
	if !known {
		usage()
	}
	os.Args = os.Args[1:]
	os.Exit(cli.Run(construct()))
}

func usage() {
	names := make([]string, 0, len(components))
	for name := range components {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: cluster <%s> [flags]\n", strings.Join(names, "|"))
	os.Exit(2)
}
