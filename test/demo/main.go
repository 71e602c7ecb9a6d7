// The demo shows the product's main job on one machine: a cluster with topics
// and consumer groups is backed up, lost, and restored into a new one, and
// every record and every group's position is checked. See README.md.
//
//	demo run [-kafka fake|real] [-dir DIR]   start everything, show it, leave it running
//	demo stop [-dir DIR]                     end it and remove its files
//	demo cluster -kafka fake|real -dir DIR   one Kafka cluster, until it is killed
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("demo "+verb, flag.ExitOnError)
	kafka := flags.String("kafka", "fake", "fake: a broker in Go, nothing to install; real: Apache Kafka (needs Java and Maven)")
	dir := flags.String("dir", ".demo", "folder for everything the demo makes")
	bin := flags.String("bin", "bin", "folder of the kafka-backup commands")
	_ = flags.Parse(args)
	if *kafka != "fake" && *kafka != "real" {
		return fmt.Errorf("-kafka is fake or real, not %q", *kafka)
	}
	var err error
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if *bin, err = filepath.Abs(*bin); err != nil {
		return err
	}
	switch verb {
	case "run":
		if err := stopDemo(*dir); err != nil {
			return err
		}
		return (&demo{dir: *dir, bin: *bin, kafka: *kafka}).run(ctx)
	case "stop":
		return stopDemo(*dir)
	case "cluster":
		return serveCluster(ctx, *kafka, *dir)
	}
	return fmt.Errorf("say what to do: run, stop or cluster")
}
