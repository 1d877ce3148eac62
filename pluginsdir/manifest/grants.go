package manifest

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"strings"

	"mk8s.io/mk/sdk/plugin"
)

func (c checker) grants(g plugin.Grants) {
	c.list("grants.filesRead", g.FilesRead, validGlob, "pattern of paths relative to the node's folder")
	c.list("grants.filesWrite", g.FilesWrite, validGlob, "pattern of paths relative to the node's folder")
	c.list("grants.services", g.Services, validWord, "service")
	c.list("grants.arguments", g.Arguments, validArgument, "service/option")
	c.list("grants.certificates", g.Certificates, validWord, "certificate profile")
	c.list("grants.locks", g.Locks, validWord, "lock")
	c.list("grants.trust", g.Trust, validWord, "authority")
	c.list("grants.network", g.Network, validAddress, "host:port")
	if len(g.Objects) > maxList {
		c.Fault("grants.objects", "holds more than %d entries", maxList)
		return
	}
	for i, o := range g.Objects {
		c.objects(fmt.Sprintf("grants.objects[%d]", i), o)
	}
}

func (c checker) objects(at string, o plugin.ObjectGrant) {
	group := regexp.MustCompile(`^(\*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$`).MatchString
	kind := regexp.MustCompile(`^(\*|[A-Z][A-Za-z0-9]*)$`).MatchString
	namespace := func(s string) bool { return s == "*" || (len(s) <= 63 && namespaceLabel(s)) }
	if len(o.Group) > 253 || !group(o.Group) {
		c.Fault(at+".group", "%q is no API group, nor \"*\"", o.Group)
	}
	if len(o.Kinds) == 0 {
		c.Fault(at+".kinds", "must name at least one kind, or \"*\"")
	}
	c.list(at+".kinds", o.Kinds, kind, "kind like ConfigMap, nor \"*\"")
	c.list(at+".namespaces", o.Namespaces, namespace, "namespace, nor \"*\"")
}

func namespaceLabel(s string) bool {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`).MatchString(s)
}

func validWord(s string) bool {
	_, err := path.Match(s, "")
	return err == nil && s != "" && strings.Trim(s, wordCharacters) == ""
}

const wordCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*?[]^"

func validArgument(s string) bool {
	service, option, ok := strings.Cut(s, "/")
	return ok && validWord(service) && validWord(option) && !strings.HasPrefix(option, "-")
}

func validAddress(s string) bool {
	host, p, err := net.SplitHostPort(s)
	return err == nil && host != "" && port(p) && !strings.ContainsAny(host, " /\n\t")
}

// validGlob accepts what path.Match knows, with ** as a whole element, below
// the node's folder.
func validGlob(s string) bool {
	if s == "" || path.IsAbs(s) || strings.ContainsAny(s, "\\\n\t") {
		return false
	}
	for element := range strings.SplitSeq(s, "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
		if strings.Contains(element, "**") && element != "**" {
			return false
		}
		if _, err := path.Match(element, ""); err != nil {
			return false
		}
	}
	return true
}

// mayMatch says whether a glob may match the file, anything below it or a
// folder around it, which could be moved or removed as a whole. It errs towards
// yes.
func mayMatch(glob, file string) bool {
	return matchElements(strings.Split(glob, "/"), strings.Split(file, "/"))
}

func matchElements(glob, file []string) bool {
	for i, g := range glob {
		switch {
		case g == "**":
			return true // any number of folders: what follows may lie below
		case i >= len(file):
			return true // the glob goes on below the file
		}
		if ok, err := path.Match(g, file[i]); err != nil || !ok {
			return false
		}
	}
	return true // the glob ends at a folder around the file
}
