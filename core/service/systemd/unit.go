package systemd

import (
	"cmp"
	"fmt"
	"strings"

	"mk8s.io/mk/core/service"
)

// backoffVersion is the first systemd whose pauses between restarts grow.
const backoffVersion = 254

// files are those that a unit names.
type files struct{ log, secrets string }

// render writes the unit file of a service. It depends on its arguments only;
// unit gives the unit's name of another service.
func render(d service.Definition, unit func(string) string, f files, version int) string {
	d = d.WithDefaults()
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s=%s\n", key, value) }

	b.WriteString("# Written by mk; it writes it anew. What you want to add goes to a drop-in:\n")
	fmt.Fprintf(&b, "# systemctl edit %s\n[Unit]\n", unit(d.Name))
	line("Description", specifiers(singleLine(cmp.Or(d.Description, "mk "+d.Name))))
	after := []string{"network.target"}
	for _, name := range d.After {
		after = append(after, unit(name))
	}
	line("After", strings.Join(after, " "))
	line("StartLimitIntervalSec", "0") // never give up

	b.WriteString("\n[Service]\n")
	line("Type", "exec")
	line("ExecStart", execStart(d))
	for _, e := range d.Env {
		line("Environment", quote(specifiers(e)))
	}
	if len(d.SecretEnv) > 0 {
		line("EnvironmentFile", specifiers(f.secrets))
	}
	line("WorkingDirectory", specifiers(d.Dir))
	line("Restart", "always")
	line("RestartSec", "1")
	if version >= backoffVersion {
		line("RestartSteps", "6")
		line("RestartMaxDelaySec", "60")
	}
	line("KillSignal", fmt.Sprint(int(d.StopSignal)))
	line("KillMode", map[service.KillMode]string{service.KillGroup: "control-group", service.KillProcess: "process"}[d.KillMode])
	line("TimeoutStopSec", fmt.Sprintf("%dms", d.StopTimeout.Milliseconds()))
	line("StandardInput", "null")
	line("StandardOutput", "append:"+specifiers(f.log))
	line("StandardError", "append:"+specifiers(f.log))
	if d.Delegate {
		line("Delegate", "yes")
		line("TasksMax", "infinity")
	}
	if d.OOMScoreAdjust != 0 {
		line("OOMScoreAdjust", fmt.Sprint(d.OOMScoreAdjust))
	}
	if d.LimitNOFILE > 0 {
		line("LimitNOFILE", fmt.Sprint(d.LimitNOFILE))
	}
	b.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
	return b.String()
}

// execStart writes the command line. A first argument that is not the path
// is given with the prefix @. Variables are expanded in arguments, not in the
// path.
func execStart(d service.Definition) string {
	words := []string{quote(specifiers(d.Path))}
	args := d.Argv[1:]
	if d.Argv[0] != d.Path {
		words = []string{quote("@" + specifiers(d.Path))}
		args = d.Argv
	}
	for _, a := range args {
		words = append(words, quote(strings.ReplaceAll(specifiers(a), "$", "$$")))
	}
	return strings.Join(words, " ")
}

// environment writes variables as a file that EnvironmentFile= reads. A value
// is one line.
func environment(vars []string) string {
	var b strings.Builder
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`).Replace(value))
	}
	return b.String()
}

// specifiers takes the meaning from %.
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quote writes s as one word, whatever it holds.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func singleLine(s string) string { return strings.Join(strings.Fields(s), " ") }
