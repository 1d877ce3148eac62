// Package settings reads and changes a node's settings: a flag counts before
// the environment (MK_*), that before the file settings.yaml, that before the
// default, and every value knows where it comes from.
//
// It guarantees that no unknown key and no value of the wrong type gets
// further than Load or Set, with the file and the line in the error, and that
// a change keeps the rest of the file with its comments. It writes nothing:
// the caller writes Bytes through core/node.
package settings

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Type is how a value is judged.
type Type string

// The types.
const (
	Text     Type = "text"
	Bool     Type = "bool"
	Duration Type = "duration" // as Go writes them, and whole days: 30d
	Name     Type = "name"     // of a group; may be empty
	URL      Type = "url"      // http, https or socks5; may be empty
	Choice   Type = "choice"
	Count    Type = "count" // 1 to 1000
)

// Key is one setting. Keys is the only place where settings are listed.
type Key struct {
	Name    string
	Type    Type
	Choices []string // for Choice
	Default string
	Doc     string
	Secret  bool // shown only as ***
}

// Keys lists all settings, sorted by name.
func Keys() []Key {
	return []Key{
		{Name: "accept-microk8s", Type: Bool, Default: "false", Doc: "let MicroK8s' own clients in: workers that join, callers of configure and image/import"},
		{Name: "accept-other-kubernetes", Type: Bool, Default: "false", Doc: "start although MicroK8s or another Kubernetes runs on this machine"},
		{Name: "cert-warn", Type: Duration, Default: "30d", Doc: "warn of a certificate that ends within this time"},
		{Name: "clock-wait", Type: Duration, Default: "2m", Doc: "how long a start waits for a clock that stands too early"},
		{Name: "group", Type: Name, Doc: "the group that reads secrets, as good as root; empty: mk, or microk8s where only that exists"},
		{Name: "key-type", Type: Choice, Choices: []string{"ecdsa-p256", "rsa-2048"}, Default: "ecdsa-p256", Doc: "the kind of new keys"},
		{Name: "proxy.http", Type: URL, Doc: "proxy through which containerd pulls images, for http", Secret: true},
		{Name: "proxy.https", Type: URL, Doc: "proxy through which containerd pulls images, for https", Secret: true},
		{Name: "proxy.no", Type: Text, Doc: "names and networks that containerd reaches without a proxy, with commas"},
		{Name: "snapshot-interval", Type: Duration, Default: "12h", Doc: "how often a control-plane node takes a snapshot; 0 for never"},
		{Name: "snapshot-keep", Type: Count, Default: "10", Doc: "how many snapshots are kept, the newest"},
		{Name: "snapshot-recipient", Type: Text, Doc: "age recipient (age1...): scheduled snapshots hold the authorities' keys, encrypted to it"},
		{Name: "supervisor", Type: Choice, Choices: []string{"auto", "systemd", "embedded"}, Default: "auto", Doc: "who keeps the services up"},
	}
}

// Env is the environment variable of a setting.
func (k Key) Env() string {
	return "MK_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(k.Name))
}

// Find is the setting of a name; the error for an unknown one offers the
// nearest.
func Find(name string) (Key, error) {
	keys := Keys()
	if i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name }); i >= 0 {
		return keys[i], nil
	}
	if len(name) > 60 {
		name = name[:60]
	}
	near := slices.MinFunc(keys, func(a, b Key) int { return distance(name, a.Name) - distance(name, b.Name) })
	if distance(name, near.Name) <= max(2, len(near.Name)/2) {
		return Key{}, fmt.Errorf("unknown setting %q; the nearest is %s", name, near.Name)
	}
	return Key{}, fmt.Errorf("unknown setting %q", name)
}

// Check says what is wrong with a value of a setting; it never shows a secret.
func (k Key) Check(value string) error {
	shown := fmt.Sprintf("%.60q", value)
	if k.Secret {
		shown = "the value"
	}
	if len(value) > 4096 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return fmt.Errorf("%s: the value is too long or holds control characters", k.Name)
	}
	var err error
	switch k.Type {
	case Text:
	case Bool:
		if value != "true" && value != "false" {
			err = errors.New("is neither true nor false")
		}
	case Duration:
		_, err = ParseDuration(value)
	case Count:
		if n, parseErr := strconv.Atoi(value); parseErr != nil || n < 1 || n > 1000 {
			err = errors.New("is not a number from 1 to 1000")
		}
	case Choice:
		if !slices.Contains(k.Choices, value) {
			err = fmt.Errorf("is none of %s", strings.Join(k.Choices, ", "))
		}
	case Name:
		if len(value) > 32 || strings.HasPrefix(value, "-") || strings.ContainsAny(value, ": ,/\"'\\") {
			err = errors.New("is not a group's name")
		}
	case URL:
		u, parseErr := url.Parse(value)
		if value != "" && (parseErr != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme)) {
			err = errors.New("is not a URL like http://proxy:3128")
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %s %w", k.Name, shown, err)
	}
	return nil
}

// ParseDuration reads 90s, 2m, 6h, 30d and 0; never less than 0.
func ParseDuration(s string) (time.Duration, error) {
	text := s
	if days, ok := strings.CutSuffix(s, "d"); ok && days != "" && !strings.ContainsFunc(days, func(r rune) bool { return r < '0' || r > '9' }) && len(days) < 6 {
		d, err := time.ParseDuration(days + "h")
		if err == nil {
			return 24 * d, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New("is not a time like 90s, 2m, 6h or 30d")
	}
	return d, nil
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}
