// Package joinstring reads and writes connection strings, which add-node
// prints and join takes: HOST:PORT/TOKEN[/FINGERPRINT], an IPv6 address in
// brackets. What Parse accepts, String writes so that Parse reads the same
// again. It asks nobody: whether the host exists and the token is good is
// found out by who uses it.
package joinstring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Invitation is a connection string taken apart.
type Invitation struct {
	Host        string // an IP address, or a name in lower case
	Port        int
	Token       string
	Fingerprint string // SHA-256 of the agent's key in lower case hexadecimal, or empty
}

// Part is a part of a connection string.
type Part string

// The parts, in their order.
const (
	Whole       Part = "connection string"
	Host        Part = "host"
	Port        Part = "port"
	Token       Part = "token"
	Fingerprint Part = "fingerprint"
)

// Error says which part is wrong, and how. It never holds the token.
type Error struct {
	Part Part
	Why  string
}

func (e *Error) Error() string {
	if e.Part == Whole {
		return "the connection string " + e.Why
	}
	return fmt.Sprintf("the connection string's %s %s", e.Part, e.Why)
}

func fault(p Part, format string, args ...any) error {
	return &Error{Part: p, Why: fmt.Sprintf(format, args...)}
}

// Bounds: of tokens as tokens/file has them, of the rest as their standards do.
const (
	longest       = 2048
	shortestToken = 16
	longestToken  = 512
	sizeOfSHA256  = 32
	longestName   = 253
	longestLabel  = 63
)

// Parse reads a connection string; blanks around it are ignored. Every error
// is an *Error.
func Parse(s string) (Invitation, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Invitation{}, fault(Whole, "is empty")
	}
	if len(s) > longest {
		return Invitation{}, fault(Whole, "has %d characters, more than %d", len(s), longest)
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Invitation{}, fault(Whole, "has %d parts between slashes: it is HOST:PORT/TOKEN or HOST:PORT/TOKEN/FINGERPRINT", len(parts))
	}
	var i Invitation
	var err error
	if i.Host, i.Port, err = parseAddress(parts[0]); err != nil {
		return Invitation{}, err
	}
	i.Token = parts[1]
	if err := checkToken(i.Token); err != nil {
		return Invitation{}, err
	}
	if len(parts) == 3 {
		i.Fingerprint = strings.ToLower(parts[2])
		if err := checkFingerprint(i.Fingerprint); err != nil {
			return Invitation{}, err
		}
	}
	return i, nil
}

func parseAddress(s string) (host string, port int, err error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return "", 0, fault(Host, "%s is an IPv6 address outside brackets, or has no port: write [ADDRESS]:PORT", s)
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		var a *net.AddrError
		switch {
		case errors.As(err, &a) && a.Err == "missing port in address":
			return "", 0, fault(Port, "is missing after the host: write HOST:PORT")
		case strings.Count(s, ":") > 1 && !strings.ContainsAny(s, "[]"):
			return "", 0, fault(Host, "%.80q has more than one colon: an IPv6 address stands in brackets, [ADDRESS]:PORT", s)
		}
		return "", 0, fault(Host, "and port are not to be read from %.80q: they are HOST:PORT, or [ADDRESS]:PORT for IPv6", s)
	}
	if host, err = parseHost(host, strings.HasPrefix(s, "[")); err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	switch {
	case text == "":
		return "", 0, fault(Port, "is missing after the colon")
	case err != nil || n == 0:
		return "", 0, fault(Port, "%.80q is not a number from 1 to 65535", text)
	}
	return host, int(n), nil
}

func parseHost(s string, brackets bool) (string, error) {
	if s == "" {
		return "", fault(Host, "is missing before the colon")
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		switch {
		case a.Zone() != "":
			return "", fault(Host, "%.80q names an interface of one machine: take an address that others know too", s)
		case a.IsUnspecified() || a.IsMulticast():
			return "", fault(Host, "%.80q is no address of one machine", s)
		}
		return a.String(), nil
	}
	if brackets {
		return "", fault(Host, "%.80q stands in brackets, but is not an IPv6 address", s)
	}
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	labels := strings.Split(name, ".")
	if len(name) > longestName {
		return "", fault(Host, "has %d characters, more than the %d that a name may have", len(name), longestName)
	}
	for _, l := range labels {
		if l == "" || len(l) > longestLabel || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return "", fault(Host, "%.80q is neither an IP address nor a host name", s)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", fault(Host, "%.80q ends in a number as an IPv4 address does, but is none", s)
	}
	return name, nil
}

func checkToken(t string) error {
	switch {
	case t == "":
		return fault(Token, "is missing")
	case len(t) < shortestToken || len(t) > longestToken:
		return fault(Token, "has %d characters, not %d to %d: was the string cut off?", len(t), shortestToken, longestToken)
	case !utf8.ValidString(t) || strings.ContainsFunc(t, func(c rune) bool { return c == '|' || unicode.IsSpace(c) || unicode.IsControl(c) }):
		return fault(Token, "has a blank, a control character or a |")
	}
	return nil
}

func checkFingerprint(f string) error {
	b, err := hex.DecodeString(f)
	switch {
	case len(f) != 2*sizeOfSHA256:
		return fault(Fingerprint, "has %d characters, not %d: was the string cut off?", len(f), 2*sizeOfSHA256)
	case err != nil || len(b) != sizeOfSHA256:
		return fault(Fingerprint, "is not hexadecimal")
	}
	return nil
}
