package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// serveCluster runs one cluster until ctx ends or the process is killed. Its
// addresses are the first line on stdout.
func serveCluster(ctx context.Context, kind, dir string) error {
	if kind == "real" {
		bed, err := kafkabed.Run(ctx, dir, kafkabed.Options{Log: os.Stderr})
		if err != nil {
			return err
		}
		fmt.Println(bed.Bootstrap)
		<-ctx.Done()
		return bed.Close()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(filepath.Join(dir, "data")))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(strings.Join(c.ListenAddrs(), ","))
	<-ctx.Done()
	return nil
}
