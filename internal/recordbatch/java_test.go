package recordbatch

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
)

// javaCase is what testdata/JavaBatches.java wrote.
type javaCase struct {
	Name    string
	Bytes   []byte
	Records []Record
}

var javaFile = sync.OnceValues(func() (file struct {
	Batches []javaCase
	Murmur2 []struct {
		Key  []byte
		Hash int32
	}
}, err error) {
	f, err := os.Open("testdata/java-batches.json.gz")
	if err != nil {
		return file, err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return file, err
	}
	err = json.NewDecoder(r).Decode(&file)
	for _, c := range file.Batches {
		for i := range c.Records {
			if len(c.Records[i].Headers) == 0 {
				c.Records[i].Headers = nil
			}
		}
	}
	return file, err
})

func TestReadsWhatJavaWrites(t *testing.T) {
	file, err := javaFile()
	if err != nil || len(file.Batches) < 40 {
		t.Fatalf("%d cases, %v", len(file.Batches), err)
	}
	var u Upconverter // one for all: state must not leak
	for _, c := range file.Batches {
		t.Run(c.Name, func(t *testing.T) {
			batches := c.Bytes
			if !strings.HasPrefix(c.Name, "v2") {
				var rest []byte
				if batches, rest, err = u.Convert(nil, c.Bytes); err != nil || len(rest) > 0 {
					t.Fatalf("%d bytes left, %v", len(rest), err)
				}
				b, _, err := Next(batches)
				if err != nil || !strings.Contains(c.Name, " "+b.Codec().String()+" ") {
					t.Fatalf("codec %s, %v", b.Codec(), err)
				}
			}
			got, err := decode(batches)
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, got, c.Records)
		})
	}
}

func TestKeyPartition(t *testing.T) {
	file, err := javaFile()
	if err != nil || len(file.Murmur2) < 10 {
		t.Fatalf("%d hashes, %v", len(file.Murmur2), err)
	}
	for _, c := range file.Murmur2 {
		if got := int32(murmur2(c.Key)); got != c.Hash {
			t.Errorf("murmur2(%q) = %d, Java says %d", c.Key, got, c.Hash)
		}
		for _, n := range []int32{1, 2, 7, 1000} {
			if got, want := KeyPartition(c.Key, n), (c.Hash&0x7fffffff)%n; got != want {
				t.Errorf("KeyPartition(%q, %d) = %d, want %d", c.Key, n, got, want)
			}
		}
	}
	if got := KeyPartition(nil, 3); got != -1 {
		t.Errorf("null key: %d", got)
	}
}
