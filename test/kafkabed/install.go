package kafkabed

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Version is the Apache Kafka that the bed runs.
const Version = "4.3.1"

//go:embed pom.xml
var pom []byte

// Install makes sure that Kafka's jars lie in the user's cache folder
// (os.UserCacheDir()/kafka-backup/kafka-VERSION) and gives that folder. The
// first call on a machine downloads some 45 MB through mvn; processes that call
// at the same time install once and the others wait. log gets a line when
// something is downloaded.
func Install(ctx context.Context, log io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("kafkabed: no cache folder for Kafka: %w", err)
	}
	return installIn(ctx, filepath.Join(cache, "kafka-backup"), log)
}

func installIn(ctx context.Context, cache string, log io.Writer) (string, error) {
	home := filepath.Join(cache, "kafka-"+Version)
	if installed(home) {
		return home, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("kafkabed: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	unlock, err := lockFile(ctx, home+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if installed(home) {
		return home, nil
	}
	if err := download(ctx, cache, home, log); err != nil {
		return "", err
	}
	return home, nil
}

// installed tells whether home was made from this very pom.xml.
func installed(home string) bool {
	have, err := os.ReadFile(filepath.Join(home, "pom.xml"))
	return err == nil && bytes.Equal(have, pom)
}

// download resolves the jars beside home and moves them there in one step, so
// that home is either absent, of an older pom.xml, or whole.
func download(ctx context.Context, cache, home string, log io.Writer) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("kafkabed: mvn (Apache Maven) is needed once to fetch Kafka %s from Maven Central; install it and try again: %w", Version, err)
	}
	temp, err := os.MkdirTemp(cache, "install-*")
	if err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := os.WriteFile(filepath.Join(temp, "pom.xml"), pom, 0o644); err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	fmt.Fprintf(log, "kafkabed: fetching Apache Kafka %s from Maven Central (45 MB, once)\n", Version)
	began := time.Now()
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "-ntp", "-f", filepath.Join(temp, "pom.xml"),
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(temp, "lib"))
	cmd.Env = append(os.Environ(), "MAVEN_OPTS=-Xmx512m -XX:TieredStopAtLevel=1")
	cmd.WaitDelay = 5 * time.Second
	dieWithParent(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kafkabed: mvn dependency:copy-dependencies: %w\n%s", err, out)
	}
	for _, jar := range []string{"kafka_2.13-" + Version + ".jar", "kafka-tools-" + Version + ".jar"} {
		if _, err := os.Stat(filepath.Join(temp, "lib", jar)); err != nil {
			return fmt.Errorf("kafkabed: mvn ended well but %s is missing: %w", jar, err)
		}
	}
	if err := os.WriteFile(filepath.Join(temp, "log4j2-tools.xml"), []byte(log4j("WARN", "SYSTEM_ERR")), 0o644); err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	if err := os.RemoveAll(home); err != nil {
		return fmt.Errorf("kafkabed: remove an outdated Kafka: %w", err)
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	if err := os.Rename(temp, home); err != nil {
		return fmt.Errorf("kafkabed: %w", err)
	}
	fmt.Fprintf(log, "kafkabed: Kafka %s is in %s (%.0fs)\n", Version, home, time.Since(began).Seconds())
	return nil
}

// lockFile takes an exclusive lock among processes; the system gives it back
// when the holder dies.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("kafkabed: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("kafkabed: lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("kafkabed: another process holds %s: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func findJava() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java := filepath.Join(home, "bin", "java")
		if _, err := os.Stat(java); err == nil {
			return java, nil
		}
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("kafkabed: java 17 or newer is needed to run Apache Kafka: %w", err)
	}
	return java, nil
}

func log4j(level, target string) string {
	return fmt.Sprintf(`<Configuration status="ERROR">
<Appenders><Console name="C" target="%s"><PatternLayout pattern="[%%d] %%p %%m (%%c)%%n"/></Console></Appenders>
<Loggers><Root level="%s"><AppenderRef ref="C"/></Root></Loggers>
</Configuration>
`, target, level)
}
