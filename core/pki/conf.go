package pki

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Limits of csr.conf.template: people write it by hand.
const (
	maxConf       = 256 << 10
	maxConfFaults = 20
	moreIPs       = "#MOREIPS"
)

// Conf is a parsed csr.conf or its template: the subset of openssl's configuration format that such files use. Sections
// of the same name are one.
type Conf struct {
	file     string
	sections map[string]*confSection
	marker   string // the section in which #MOREIPS stands
	markLine int    // its line, or 0
}

type confSection struct {
	keys    []string // in order
	entries map[string]confEntry
}

type confEntry struct {
	value string
	line  int
}

// ParseConf reads a file's text; file is its name in messages. Every error has file and line, all of them are reported.
func ParseConf(file string, text []byte) (*Conf, error) {
	if len(text) > maxConf {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d allowed", file, len(text), maxConf)
	}
	c := &Conf{file: file, sections: map[string]*confSection{}}
	var f faults
	section, n := "default", 0
	for line := range bytes.Lines(text) {
		n++
		fault := func(format string, args ...any) {
			f.addf("%s:%d: %w", file, n, fmt.Errorf(format, args...))
		}
		raw := strings.TrimSpace(string(line))
		if raw == moreIPs && c.markLine == 0 {
			c.marker, c.markLine = section, n
		}
		s, err := stripComment(raw)
		switch {
		case err != nil:
			fault("%w", err)
		case s == "":
		case s[0] == '[':
			name := strings.TrimSpace(strings.TrimSuffix(s[1:], "]"))
			if !strings.HasSuffix(s, "]") || !confWord(name) {
				fault("a section is written [ name ]")
				break
			}
			section = name
		default:
			if err := c.set(section, s, n); err != nil {
				fault("%w", err)
			}
		}
		if len(f) >= maxConfFaults {
			break
		}
	}
	if len(f) > 0 {
		return nil, f.wrap("read %s", file)
	}
	return c, nil
}

// set takes one line `key = value`.
func (c *Conf) set(section, line string, n int) error {
	key, value, ok := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || !confWord(key) {
		return fmt.Errorf("expected key = value")
	}
	if strings.ContainsAny(value, "$\\") {
		return fmt.Errorf("variables and escapes are not supported here")
	}
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	if strings.ContainsRune(value, '"') {
		return fmt.Errorf("the quotes do not match")
	}
	s := c.sections[section]
	if s == nil {
		s = &confSection{entries: map[string]confEntry{}}
		c.sections[section] = s
	}
	if old, dup := s.entries[key]; dup {
		return fmt.Errorf("%s is set already in line %d", key, old.line)
	}
	s.keys = append(s.keys, key)
	s.entries[key] = confEntry{value, n}
	return nil
}

// stripComment cuts a comment off, minding quotes.
func stripComment(s string) (string, error) {
	quoted := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '#' && !quoted:
			return strings.TrimSpace(s[:i]), nil
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", fmt.Errorf("a control character")
		}
	}
	return s, nil
}

func confWord(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '-')
	})
}

func (c *Conf) get(section, key string) (confEntry, bool) {
	s := c.sections[section]
	if s == nil {
		return confEntry{}, false
	}
	e, ok := s.entries[key]
	return e, ok
}

func (c *Conf) has(section, key string) bool {
	_, ok := c.get(section, key)
	return ok
}

// nameSections are the sections that the file's subjectAltName lines point to, and the names that they hold themselves.
func (c *Conf) nameSections() ([]string, Names, error) {
	var f faults
	var names Names
	var sections []string
	exts := []string{"v3_ext"}
	if e, ok := c.get("req", "req_extensions"); ok && e.value != "v3_ext" {
		exts = append(exts, e.value)
	}
	for _, ext := range exts {
		e, ok := c.get(ext, "subjectAltName")
		if !ok {
			continue
		}
		for item := range strings.SplitSeq(e.value, ",") {
			item = strings.TrimSpace(item)
			ref, isRef := strings.CutPrefix(item, "@")
			kind, value, _ := strings.Cut(item, ":")
			switch {
			case item == "critical":
			case isRef && c.sections[ref] == nil:
				f.addf("%s:%d: there is no section [ %.80s ], or it is empty", c.file, e.line, ref)
			case isRef:
				if !slices.Contains(sections, ref) {
					sections = append(sections, ref)
				}
			default:
				if err := names.addConf(kind, strings.TrimSpace(value)); err != nil {
					f.addf("%s:%d: %w", c.file, e.line, err)
				}
			}
		}
	}
	if len(f) == 0 && len(sections) == 0 && names.Empty() {
		f.addf("%s: no subjectAltName in [ v3_ext ]", c.file)
	}
	return sections, names, f.wrap("names of %s", c.file)
}

// Names are those that the server's certificate must have: the union of what the file's subjectAltName lines say.
func (c *Conf) Names() (Names, error) {
	sections, names, err := c.nameSections()
	if err != nil {
		return Names{}, err
	}
	var f faults
	for _, s := range sections {
		sec := c.sections[s]
		for _, key := range sec.keys {
			e := sec.entries[key]
			kind, _, _ := strings.Cut(key, ".")
			if err := names.addConf(kind, e.value); err != nil {
				f.addf("%s:%d: %w", c.file, e.line, err)
			}
			if len(f) >= maxConfFaults {
				return Names{}, f.wrap("names of %s", c.file)
			}
		}
	}
	if total := len(names.DNS) + len(names.IPs); total > maxNames {
		f.addf("%s: %d names are more than the %d allowed", c.file, total, maxNames)
	}
	if len(f) > 0 {
		return Names{}, f.wrap("names of %s", c.file)
	}
	return names.Normal(), nil
}

// addConf takes one name as openssl spells it.
func (n *Names) addConf(kind, value string) error {
	switch kind {
	case "DNS":
		if err := checkDNS(value); err != nil {
			return err
		}
		n.DNS = append(n.DNS, value)
	case "IP":
		ip, err := netip.ParseAddr(value)
		if err != nil {
			return fmt.Errorf("%.80q is no address", value)
		}
		if err := checkIP(ip); err != nil {
			return err
		}
		n.IPs = append(n.IPs, ip)
	default:
		return fmt.Errorf("%.40q is not supported: DNS.n and IP.n only", kind)
	}
	return nil
}
