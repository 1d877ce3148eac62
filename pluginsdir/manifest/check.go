package manifest

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"mk8s.io/mk/pluginsdir/strict"
	"mk8s.io/mk/sdk/plugin"
)

// Bounds of lists and texts.
const (
	maxName = 40 // with the kind it must fit into folder names and socket paths
	maxText = 300
	maxList = 256
)

// checker notes the faults of one manifest.
type checker struct {
	*strict.Document
}

func check(d *strict.Document, m *Manifest) {
	c := checker{d}
	if m.APIVersion != APIVersion {
		c.Fault("apiVersion", "must be %s, is %q", APIVersion, m.APIVersion)
	}
	if m.Kind != Kind {
		c.Fault("kind", "must be %s, is %q", Kind, m.Kind)
	}
	c.identity(m.Identity)
	c.contracts(m)
	c.platforms(m.Platforms)
	c.grants(m.Grants)
	c.steps(m.Steps)
	c.routes(m)
	c.timeouts(m.Timeouts)
	if m.Requires.MK != "" {
		if _, err := semver.NewConstraint(m.Requires.MK); err != nil {
			c.Fault("requires.mk", "%q is no constraint like \">=1.2\"", m.Requires.MK)
		}
	}
}

func (c checker) identity(i Identity) {
	if !slices.Contains(plugin.Kinds(), i.Identity.Kind) {
		c.Fault("identity.kind", "must be one of %s, is %q", strings.Join(plugin.Kinds(), ", "), i.Identity.Kind)
	}
	if !ValidName(i.Name) {
		c.Fault("identity.name", "%q is no name: lower-case letters, digits and dashes, at most %d", i.Name, maxName)
	}
	if _, err := semver.StrictNewVersion(i.Version); err != nil {
		c.Fault("identity.version", "%q is no version like 1.2.3", i.Version)
	}
	c.text("identity.publisher", i.Publisher)
	c.text("identity.description", i.Description)
	c.text("identity.homepage", i.Homepage)
	if u, err := url.Parse(i.Homepage); i.Homepage != "" && (err != nil || u.Host == "" || !oneOf(u.Scheme, "http", "https")) {
		c.Fault("identity.homepage", "must be a web address")
	}
}

func oneOf(s string, of ...string) bool { return slices.Contains(of, s) }

// ValidName says whether s can be a plugin's name: an RFC 1123 label.
func ValidName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (c checker) text(path, s string) {
	if len(s) > maxText || strings.ContainsAny(s, "\n\t") {
		c.Fault(path, "must be one line of at most %d characters", maxText)
	}
}

func (c checker) list(path string, values []string, valid func(string) bool, want string) {
	if len(values) > maxList {
		c.Fault(path, "holds more than %d entries", maxList)
		return
	}
	for i, v := range values {
		p := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case len(v) > maxText || !valid(v):
			c.Fault(p, "%q is no %s", v, want)
		case slices.Contains(values[:i], v):
			c.Fault(p, "%q is there twice", v)
		}
	}
}

func (c checker) contracts(m *Manifest) {
	valid := regexp.MustCompile(`^mk\.[a-z]+\.v[1-9][0-9]*$`).MatchString
	c.list("contracts", m.Contracts, valid, "contract like mk.certs.v1")
	own := "mk." + m.Identity.Identity.Kind + ".v"
	if !slices.ContainsFunc(m.Contracts, func(s string) bool { return strings.HasPrefix(s, own) }) {
		c.Fault("contracts", "must hold the one of its kind, like %s1", own)
	}
	word := regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`).MatchString
	c.list("capabilities", m.Capabilities, word, "capability: lower-case letters, digits, dots and dashes")
}

func (c checker) platforms(platforms []Platform) {
	if len(platforms) == 0 || len(platforms) > maxList {
		c.Fault("platforms", "must hold at least one program, and at most %d", maxList)
		return
	}
	word := regexp.MustCompile(`^[a-z0-9]{1,16}$`)
	sum := regexp.MustCompile(`^[0-9a-f]{64}$`)
	seen := map[string]bool{}
	for i, p := range platforms {
		at := fmt.Sprintf("platforms[%d]", i)
		if !word.MatchString(p.OS) {
			c.Fault(at+".os", "%q is no operating system like linux", p.OS)
		}
		if !word.MatchString(p.Arch) {
			c.Fault(at+".arch", "%q is no architecture like amd64, nor %q", p.Arch, AnyArch)
		}
		if !LocalPath(p.Bin) || p.Bin == FileName {
			c.Fault(at+".bin", "%q is no path of a program below the plugin's folder", p.Bin)
		}
		if !sum.MatchString(p.SHA256) {
			c.Fault(at+".sha256", "must be 64 digits of lower-case hex")
		}
		if seen[p.OS+"/"+p.Arch] {
			c.Fault(at, "%s/%s is there twice", p.OS, p.Arch)
		}
		seen[p.OS+"/"+p.Arch] = true
	}
}

// LocalPath accepts clean relative paths that stay below their folder.
func LocalPath(s string) bool {
	return s != "" && s != "." && len(s) <= maxText && path.Clean(s) == s && !path.IsAbs(s) &&
		s != ".." && !strings.HasPrefix(s, "../") && !strings.ContainsAny(s, "\\\n\t")
}

func (c checker) steps(steps []plugin.StepDescription) {
	if len(steps) > maxList {
		c.Fault("steps", "holds more than %d entries", maxList)
		return
	}
	seen := map[string]bool{}
	for i, s := range steps {
		at := fmt.Sprintf("steps[%d]", i)
		if !question(s.Question) {
			c.Fault(at+".question", "%q is no question like Join", s.Question)
		}
		if !ValidName(s.Name) {
			c.Fault(at+".name", "%q is no name: lower-case letters, digits and dashes", s.Name)
		}
		c.text(at+".summary", s.Summary)
		if seen[s.Question+" "+s.Name] {
			c.Fault(at, "%s %s is there twice", s.Question, s.Name)
		}
		seen[s.Question+" "+s.Name] = true
	}
}

func question(s string) bool {
	return regexp.MustCompile(`^[A-Z][A-Za-z]{1,39}$`).MatchString(s)
}

func (c checker) routes(m *Manifest) {
	if len(m.Routes) > 0 && m.Identity.Identity.Kind != plugin.KindClustering {
		c.Fault("routes", "only clustering plugins answer routes")
	}
	if len(m.Routes) > maxList {
		c.Fault("routes", "holds more than %d entries", maxList)
		return
	}
	header := regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString
	seen := map[string]bool{}
	for i, r := range m.Routes {
		at := fmt.Sprintf("routes[%d]", i)
		if !oneOf(r.Method, "GET", "POST", "PUT", "PATCH", "DELETE") {
			c.Fault(at+".method", "%q is no method like POST", r.Method)
		}
		if !strings.HasPrefix(r.Path, "/") || path.Clean(r.Path) != strings.TrimSuffix(r.Path, "/") ||
			len(r.Path) > maxText || strings.ContainsAny(r.Path, " {}?#\n\t") {
			c.Fault(at+".path", "%q is no path like /cluster/api/v1.0/join", r.Path)
		}
		c.list(at+".headers", r.Headers, header, "name of a header")
		if seen[r.Method+" "+r.Path] {
			c.Fault(at, "%s %s is there twice", r.Method, r.Path)
		}
		seen[r.Method+" "+r.Path] = true
	}
}

func (c checker) timeouts(t Timeouts) {
	c.duration("timeouts.start", t.Start, Duration(MaxStartTimeout.String()))
	for name, d := range t.Questions {
		at := "timeouts.questions." + name
		if !question(name) {
			c.Fault(at, "is no question like Sign")
		}
		c.duration(at, d, Duration(MaxQuestionTimeout.String()))
	}
}

func (c checker) duration(path string, d, longest Duration) {
	if d == "" {
		return
	}
	if v := d.Value(-1); v <= 0 || v > longest.Value(0) {
		c.Fault(path, "%q is no time of at most %s, like \"10s\"", string(d), longest)
	}
}

// port accepts 1 to 65535 and *.
func port(s string) bool {
	n, err := strconv.Atoi(s)
	return s == "*" || (err == nil && n > 0 && n < 65536)
}
