package args

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const blanks = " \t"

// parseLine reads one line without its end.
func parseLine(raw string) (line, error) {
	l := line{raw: raw}
	text := strings.Trim(raw, blanks)
	if strings.ContainsRune(raw, 0) {
		return l, errors.New("a NUL byte")
	}
	if text == "" || text[0] == '#' {
		return l, nil
	}
	if err := checkText(text); err != nil {
		return l, err
	}
	rest, found := strings.CutPrefix(text, "--")
	if !found {
		return l, fmt.Errorf("%.40q does not begin with --: one option a line, --name=value", text)
	}
	name, value := rest, ""
	if i := strings.IndexAny(rest, "= \t"); i >= 0 {
		name, value, l.hasValue = rest[:i], rest[i:], true
		if value[0] == '=' {
			value = value[1:]
		} else {
			value = strings.TrimLeft(value, blanks)
		}
	}
	if err := CheckName(name); err != nil {
		return l, err
	}
	value, err := unquote(value)
	if err != nil {
		return l, fmt.Errorf("--%s: %w", name, err)
	}
	l.name, l.value = name, value
	return l, nil
}

// unquote reads a value: as it stands, or wholly in quotes. Quotes that begin
// or end elsewhere mean one thing to a shell and another to the program, so
// they are refused and not guessed.
func unquote(s string) (string, error) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		if strings.ContainsAny(s, blanks) {
			return "", fmt.Errorf("the value %.40q holds a space: put all of it in quotes", s)
		}
		if strings.ContainsAny(s, `"'`) {
			return "", fmt.Errorf("the value %.40q holds a quote: put all of it in the other kind of quotes", s)
		}
		return s, nil
	}
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote:
			if i != len(s)-1 {
				return "", fmt.Errorf("text after the closing quote: %.40q", s[i+1:])
			}
			return b.String(), nil
		case quote == '"' && s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", errors.New("the closing quote is missing")
}

// quote writes a value so that unquote reads it back.
func quote(s string) string {
	switch {
	case !strings.ContainsAny(s, `"'`+blanks):
		return s
	case !strings.Contains(s, "'"):
		return "'" + s + "'"
	default:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
}

func valueLines(name string, values []string) ([]line, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	var out []line
	for _, v := range values {
		if err := checkText(v); err != nil {
			return nil, fmt.Errorf("set --%s: the value holds %w", name, err)
		}
		out = append(out, line{raw: "--" + name + "=" + quote(v), name: name, value: v, hasValue: true})
	}
	return out, nil
}

// checkText refuses what would end a line or be seen differently by programs.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("bytes that are not UTF-8")
	}
	for _, c := range s {
		if c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("the control character %q", c)
		}
	}
	return nil
}

// CheckName says what is wrong with an option's name, written without "--".
func CheckName(name string) error {
	ok := name != "" && len(name) <= 200 && name[0] != '-' && name[0] != '.'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return fmt.Errorf("%.60q is not an option's name (lower-case letters, digits, dashes and dots)", name)
	}
	return nil
}

// Services lists the services that have a file in args/.
func Services() []string {
	return []string{
		"apiserver-proxy", "cluster-agent", "containerd", "ctr", "etcd", "flanneld", "kube-apiserver",
		"kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet", "kubelite",
	}
}

// ValidService says whether name is one of Services. Nothing else is ever
// made part of a path.
func ValidService(name string) bool { return slices.Contains(Services(), name) }
