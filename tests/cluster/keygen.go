package main

import (
	"github.com/spf13/cobra"
	"k8s.io/client-go/util/keyutil"
)

// newKeygenCommand writes the private key that signs service-account tokens:
// fresh for each cluster, so that no key lies in the tree.
func newKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:          "keygen FILE",
		Args:         cobra.ExactArgs(1),
		SilenceUsage: true,
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := keyutil.MakeEllipticPrivateKeyPEM()
			if err != nil {
				return err
			}
			return keyutil.WriteKey(args[0], key)
		},
	}
}
