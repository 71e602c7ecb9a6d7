package repository

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kafka-backup/kafka-backup/internal/storage/file"
)

// TestFormatDocument does what docs/FORMAT.md tells a reader without this code to do, with the
// scripts that are in it.
func TestFormatDocument(t *testing.T) {
	for _, tool := range []string{"bash", "jq", "zstd", "xxd", "sha256sum", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	text, err := os.ReadFile("../../docs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := t.TempDir()
	for _, block := range regexp.MustCompile("(?s)```(?:bash|python)\n(#!.*?\n# (\\S+) .*?)```").FindAllSubmatch(text, -1) {
		if err := os.WriteFile(filepath.Join(scripts, string(block[2])), block[1], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	b, err := file.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	r := newRepository(t, b)
	first := backup(t, r, "first", nil, ordersAndPayments(0, 40)...)
	backup(t, r, "second", shardOf(t, r, first), ordersAndPayments(40, 60)...)
	run := func(stdin []byte, script string, args ...string) (string, error) {
		t.Helper()
		c := exec.Command(filepath.Join(scripts, script), args...)
		c.Dir = root
		c.Stdin = bytes.NewReader(stdin)
		var out, errors bytes.Buffer
		c.Stdout, c.Stderr = &out, &errors
		err := c.Run()
		if err != nil {
			err = fmt.Errorf("%s %q: %w: %s", script, args, err, errors.String())
		}
		return out.String(), err
	}
	for _, document := range []string{"repository.json", "backups/second/manifest.json"} {
		if out, err := run(nil, "check-document.sh", document); err != nil || out != "ok\n" {
			t.Errorf("%s: %q, %v", document, out, err)
		}
	}
	var want strings.Builder
	for offset := range 60 {
		fmt.Fprintf(&want, "%d %d b'k%09d' b'value12345' []\n", offset, 1_000_000+offset, offset)
	}
	for topic, partition := range map[string]string{"orders": "0", "payments": "4"} {
		batches, err := run(nil, "extract.sh", "second", topic, partition)
		if err != nil {
			t.Fatal(err)
		}
		records, err := run([]byte(batches), "records.py")
		if err != nil {
			t.Fatal(err)
		}
		if records != want.String() {
			t.Errorf("%s: got\n%s\nwant\n%s", topic, records, want.String())
		}
	}
	// The scripts notice damage, as promised.
	for _, key := range []string{SegmentKey("first", 0, 0), "backups/second/index/00000.json.zst", "backups/second/manifest.json"} {
		good := content(t, r, key)
		bad := bytes.Clone(good)
		bad[20]++ // of the segment: its first block, which is of orders
		replace(t, r, key, bad)
		_, err := run(nil, "extract.sh", "second", "orders", "0")
		if strings.HasSuffix(key, ".json") {
			_, err = run(nil, "check-document.sh", key)
		}
		if err == nil {
			t.Errorf("%s is damaged and the script says nothing", key)
		}
		replace(t, r, key, good)
	}
}
