package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/oracle"
)

type demo struct {
	dir, bin, kafka string
	address, ui     string // of Temporal
	steps           int
}

const backupID = "production-backup-001"

func (d *demo) step(format string, args ...any) {
	d.steps++
	fmt.Printf("\n── %d. %s\n", d.steps, fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) error {
	for _, sub := range []string{"pids", "backups"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return err
		}
	}
	d.step("Start Temporal, its Web UI and a worker")
	if err := d.startServer(); err != nil {
		return err
	}
	fmt.Printf("Web UI: %s\n", d.ui)

	d.step("Start a Kafka cluster and fill it")
	lost, source, err := d.cluster("production")
	if err != nil {
		return err
	}
	made, err := dataset.Shop(ctx, dataset.Options{Client: []kgo.Opt{kgo.SeedBrokers(strings.Split(source, ",")...)}})
	if err != nil {
		return err
	}
	fmt.Printf("%d records in the topics %s; consumer groups %s\n", made.Records, strings.Join(made.Topics, ", "), strings.Join(made.Groups, ", "))
	before, groupsBefore, err := look(ctx, source, made)
	if err != nil {
		return err
	}

	d.step("Back it up")
	backup, err := d.file("backup.yaml", fmt.Sprintf(`mode: backup
backup_id: %s
source:
  bootstrap_servers: [%s]
storage:
  backend: filesystem
  path: %s
`, backupID, source, filepath.Join(d.dir, "backups")))
	if err != nil {
		return err
	}
	if err := d.command(ctx, "backup", "--config", backup); err != nil {
		return err
	}

	d.step("Lose the cluster: kill -9, and delete its disks")
	if err := end(lost, syscall.SIGKILL); err != nil {
		return err
	}
	if err := d.forget("production"); err != nil {
		return err
	}

	d.step("Start an empty cluster, and restore in three phases")
	_, target, err := d.cluster("recovery")
	if err != nil {
		return err
	}
	restore, err := d.file("restore.yaml", fmt.Sprintf(`mode: restore
backup_id: %s
target:
  bootstrap_servers: [%s]
storage:
  backend: filesystem
  path: %s
restore:
  consumer_group_strategy: header-based
  reset_consumer_offsets: true
`, backupID, target, filepath.Join(d.dir, "backups")))
	if err != nil {
		return err
	}
	if err := d.command(ctx, "three-phase-restore", "--config", restore); err != nil {
		return err
	}

	d.step("Compare, record by record and group by group")
	after, groupsAfter, err := look(ctx, target, made)
	if err != nil {
		return err
	}
	records := oracle.Compare(before, after, oracle.Plan{})
	positions := oracle.ComparePositions(before, after, groupsBefore, groupsAfter, oracle.Plan{})
	fmt.Printf("records: %s\ngroups:  %s\n", records, positions)
	if !records.Clean() || !positions.Clean() {
		return fmt.Errorf("the restored cluster is not what was lost")
	}
	d.farewell(backup, restore, target)
	return nil
}

// startServer starts `kafka-backup server`, on the usual ports if they are
// free.
func (d *demo) startServer() error {
	port, ui := freePort("7233"), freePort("8233")
	_, _, err := d.background("server", filepath.Join(d.bin, "kafka-backup"), "server",
		"--state-dir", filepath.Join(d.dir, "temporal"), "--port", port, "--ui-port", ui)
	d.address, d.ui = "127.0.0.1:"+port, "http://127.0.0.1:"+ui
	return err
}

// freePort is the port wanted, or any other when that is in use.
func freePort(wanted string) string {
	for _, p := range []string{wanted, "0"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+p)
		if err == nil {
			defer l.Close()
			return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		}
	}
	return wanted // the server will say what is wrong
}

// cluster starts a Kafka cluster in the background.
func (d *demo) cluster(name string) (pid int, addresses string, err error) {
	begun := time.Now()
	self, err := os.Executable()
	if err != nil {
		return 0, "", err
	}
	pid, addresses, err = d.background(name, self, "cluster", "-kafka", d.kafka, "-dir", filepath.Join(d.dir, name))
	if err == nil {
		what := "a broker in Go that speaks Kafka's protocol"
		if d.kafka == "real" {
			what = "Apache Kafka"
		}
		fmt.Printf("cluster %q: %s, %s (ready in %s)\n", name, addresses, what, time.Since(begun).Round(100*time.Millisecond))
	}
	return pid, addresses, err
}

// forget removes a cluster's files. Its processes may take a moment to die.
func (d *demo) forget(name string) error {
	var err error
	for range 50 {
		if err = os.RemoveAll(filepath.Join(d.dir, name)); err == nil {
			return os.Remove(filepath.Join(d.dir, "pids", name))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// look reads all records and committed offsets, with an ordinary consumer.
func look(ctx context.Context, addresses string, made *dataset.Summary) (oracle.Content, []oracle.Committed, error) {
	client := []kgo.Opt{kgo.SeedBrokers(strings.Split(addresses, ",")...)}
	content, err := oracle.Read(ctx, oracle.Reading{Client: client, Topics: made.Topics})
	if err != nil {
		return nil, nil, err
	}
	groups, err := oracle.ReadGroups(ctx, client, made.Groups...)
	return content, groups, err
}

func (d *demo) file(name, text string) (string, error) {
	path := filepath.Join(d.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// command runs the product's command line as a user would.
func (d *demo) command(ctx context.Context, args ...string) error {
	fmt.Printf("$ kafka-backup %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "kafka-backup"), args...)
	cmd.Env = append(os.Environ(), "TEMPORAL_ADDRESS="+d.address)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	return cmd.Run()
}

func (d *demo) farewell(backup, restore, target string) {
	storage := filepath.Join(d.dir, "backups")
	fmt.Printf(`
── Done: every record and every group's position is what it was.

Everything is still running. Look at the two operations in the Web UI:

  %s/namespaces/default/workflows

Or poke around (the configuration files are %s and %s):

  export TEMPORAL_ADDRESS=%s PATH="%s:$PATH"
  kafka-backup list --path %s
  kafka-backup describe --path %s --backup-id %s
  kafka-backup show-offset-mapping --path %s --backup-id %s
  kafka-backup validate --deep --path %s --backup-id %s
  kafka-backup operations

The restored cluster is at %s. Stop everything and remove its files with:

  make demo-stop
`, d.ui, backup, restore, d.address, d.bin, storage, storage, backupID, storage, backupID, storage, backupID, target)
}
