package kafkabed_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/twmb/franz-go/pkg/kadm"
)

func TestThreeBrokersOneKilledStoppedAndStartedAgain(t *testing.T) {
	bed := kafkabed.Start(t, kafkabed.Options{Brokers: 3})
	ctx := kafkabed.Context(t, 4*time.Minute)
	cl := bed.Client(t, kafkabed.Login{})
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 3, 3, nil, "replicated"); err != nil {
		t.Fatal(err)
	}
	for i, end := range []func(int) error{bed.Kill, bed.Stop} {
		if err := end(2); err != nil {
			t.Fatal(err)
		}
		if pids := bed.Pids(); len(pids) != 2 || pids[2] != 0 {
			t.Fatalf("running brokers after the end of broker 2: %v", pids)
		}
		roundTrip(t, ctx, bed.Client(t, kafkabed.Login{}), fmt.Sprintf("while-away-%d", i))
		if err := bed.StartBroker(ctx, 2); err != nil {
			t.Fatal(err)
		}
		if err := bed.AwaitInSync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := bed.StartBroker(ctx, 2); err == nil {
		t.Error("a running broker was started a second time")
	}
}

func TestABrokerThatCannotStartIsReportedWithItsLog(t *testing.T) {
	dir := t.TempDir()
	_, err := kafkabed.Run(kafkabed.Context(t, time.Minute), dir, kafkabed.Options{
		Properties: map[string]string{"num.io.threads": "none"},
	})
	if err == nil || !strings.Contains(err.Error(), "num.io.threads") {
		t.Fatalf("error %v does not tell the reason", err)
	}
}

func TestAFolderInUseIsRefused(t *testing.T) {
	bed := shared.Bed(t)
	if _, err := kafkabed.Run(kafkabed.Context(t, time.Minute), bed.Dir, kafkabed.Options{}); err == nil {
		t.Fatal("a second cluster was started in the folder of the first")
	}
	if len(bed.Pids()) != 1 {
		t.Fatal("the first cluster suffered")
	}
}

// The owner is this test binary once more, which starts a bed and hangs.
const ownerDir = "KAFKABED_TEST_OWNER_DIR"

func TestBrokersEndWithAKilledOwner(t *testing.T) {
	if dir := os.Getenv(ownerDir); dir != "" {
		bed, err := kafkabed.Run(context.Background(), dir, kafkabed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("\nbroker", bed.Pids()[1])
		select {}
	}
	owner := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "3m")
	owner.Env = append(os.Environ(), ownerDir+"="+filepath.Join(t.TempDir(), "bed"))
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer owner.Process.Kill()
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "broker %d", &pid)
	}
	if pid == 0 {
		t.Fatal("the owner named no broker")
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // "signal: killed"
	for deadline := time.Now().Add(30 * time.Second); !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("broker %d outlived the process that started it", pid)
		}
	}
}
