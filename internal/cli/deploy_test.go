package cli

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What deploy/ runs is understood by the programs: each command line of the
// compose file and of the Kubernetes manifest has flags that exist, paths that
// the image makes, and probes that the worker answers.
func TestDeployedCommandLines(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Build   struct{ Context, Dockerfile string }
			Command []string
			Volumes []string
		}
		Volumes map[string]any
	}
	decode(t, "../../deploy/compose/compose.yaml", &compose)
	image, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for name, s := range compose.Services {
		if s.Build.Dockerfile != "" {
			if _, err := os.Stat("../../deploy/compose/" + s.Build.Context + "/" + s.Build.Dockerfile); err != nil {
				t.Error(err)
			}
		}
		for _, v := range s.Volumes {
			from, to, _ := strings.Cut(v, ":")
			if _, named := compose.Volumes[from]; named {
				// A volume takes its owner from the image, which is not root.
				if !regexp.MustCompile(`(?m)^COPY .*--chown=nonroot:nonroot .* ` + to + `$`).Match(image) {
					t.Errorf("%s: the image has no %s that its user may write to", name, to)
				}
			} else if file, _, _ := strings.Cut(to, ":"); file == "" {
				t.Errorf("%s: volume %s", name, v)
			} else if _, err := os.Stat("../../deploy/compose/" + from); err != nil {
				t.Error(err)
			}
		}
		if len(s.Command) > 0 {
			ran++
			understood(t, "compose "+name, s.Command)
		}
	}

	type probe struct {
		HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
	}
	type document struct {
		Kind string
		Spec struct {
			Template struct {
				Metadata struct{ Annotations map[string]string }
				Spec     struct {
					Containers []struct {
						Args  []string
						Ports []struct {
							Name          string
							ContainerPort string `yaml:"containerPort"`
						}
						Liveness  probe `yaml:"livenessProbe"`
						Readiness probe `yaml:"readinessProbe"`
					}
				}
			}
		}
	}
	file, err := os.ReadFile("../../deploy/kubernetes/worker.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for documents := yaml.NewDecoder(bytes.NewReader(file)); ; {
		var d document
		if err := documents.Decode(&d); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			ran++
			understood(t, "Kubernetes "+d.Kind, c.Args)
			if c.Liveness.HTTPGet.Path != "/healthz" || c.Readiness.HTTPGet.Path != "/readyz" {
				t.Errorf("probes %+v, %+v", c.Liveness, c.Readiness)
			}
			port := d.Spec.Template.Metadata.Annotations["prometheus.io/port"]
			if len(c.Ports) != 1 || c.Ports[0].ContainerPort != port || !strings.Contains(strings.Join(c.Args, " "), ":"+port) ||
				c.Liveness.HTTPGet.Port != c.Ports[0].Name || c.Readiness.HTTPGet.Port != c.Ports[0].Name {
				t.Errorf("ports %+v, annotated %q, args %q", c.Ports, port, c.Args)
			}
		}
	}
	if r := run(t, "worker", "--metrics", ":9464", "--help"); r.code == 0 {
		t.Error("a flag that does not exist is understood")
	}
	if ran != 3 {
		t.Errorf("%d command lines were looked at", ran)
	}
}

// understood checks that a command line's flags exist.
func understood(t *testing.T, what string, args []string) {
	t.Helper()
	if r := run(t, append(args, "--help")...); r.code != 0 || !strings.Contains(r.out, args[0]) {
		t.Errorf("%s: %q: exit code %d\n%s%s", what, args, r.code, r.out, r.err)
	}
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
