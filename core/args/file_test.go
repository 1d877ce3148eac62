package args

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func mustParse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantText(t *testing.T, f *File, want string) {
	t.Helper()
	if got := string(f.Bytes()); got != want {
		t.Errorf("text is\n%q, want\n%q", got, want)
	}
}

// TestUpstreamDefects has a case for each defect of MicroK8s' own readers and
// writers of these files; what they do is in the case's name.
func TestUpstreamDefects(t *testing.T) {
	t.Parallel()
	get := func(text, name, want string) func(*testing.T) {
		return func(t *testing.T) {
			if got, ok := mustParse(t, text).Get(name); !ok || got != want {
				t.Errorf("Get(%q) = %q, %v; want %q", name, got, ok, want)
			}
		}
	}
	set := func(text, name, value, want string) func(*testing.T) {
		return func(t *testing.T) {
			f := mustParse(t, text)
			if err := f.Set(name, value); err != nil {
				t.Fatal(err)
			}
			wantText(t, f, want)
			if got, ok := mustParse(t, want).Get(name); !ok || got != value {
				t.Errorf("read back %q, want %q", got, value)
			}
		}
	}
	unset := func(text, name, want string) func(*testing.T) {
		return func(t *testing.T) {
			f := mustParse(t, text)
			f.Unset(name)
			wantText(t, f, want)
		}
	}
	refused := func(text, fault string) func(*testing.T) {
		return func(t *testing.T) {
			if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), fault) {
				t.Errorf("error %v, want one with %q", err, fault)
			}
		}
	}
	argv := func(text string, want ...string) func(*testing.T) {
		return func(t *testing.T) {
			if got := mustParse(t, text).Argv(); !slices.Equal(got, want) {
				t.Errorf("Argv() = %q, want %q", got, want)
			}
		}
	}
	tests := map[string]func(*testing.T){
		"get cuts a value at its second =":         get("--gates=A=true,B=false\n", "gates", "A=true,B=false"),
		"get cuts a=b=c after a space too":         get("--gates a=b=c\n", "gates", "a=b=c"),
		"get takes names with the same beginning":  get("--client-ca-file=a\n--client-ca-file-extra=b\n", "client-ca-file", "a"),
		"get finds the longer name first":          get("--client-ca-file-extra=b\n--client-ca-file=a\n", "client-ca-file", "a"),
		"get cuts a value at its first space":      get("--labels=\"a b c\"\n", "labels", "a b c"),
		"get keeps the line's end in the value":    get("--v=2\r\n", "v", "2"),
		"get of a flag cannot be told from none":   get("--anonymous\n", "anonymous", ""),
		"set does not see the form with a space":   set("--v 2\n--w=1\n", "v", "3", "--v=3\n--w=1\n"),
		"set adds a second line":                   set("--v=1\n--v 2\n--w\n", "v", "3", "--v=3\n--w\n"),
		"set writes nothing to an empty file":      set("", "v", "3", "--v=3\n"),
		"set joins onto an unfinished last line":   set("--w=1", "v", "3", "--w=1\n--v=3\n"),
		"set breaks on & of sed":                   set("--v=1\n", "v", "a&b", "--v=a&b\n"),
		"set breaks on the delimiters of sed":      set("--v=1\n", "v", "a;b@c/d|e", "--v=a;b@c/d|e\n"),
		"set breaks on a backslash":                set("--v=1\n", "v", `a\1\n`, `--v=a\1\n`+"\n"),
		"set changes names with the same prefix":   set("--v-extra=1\n", "v", "2", "--v-extra=1\n--v=2\n"),
		"set breaks on spaces and quotes":          set("", "v", `it's "so"`, `--v="it's \"so\""`+"\n"),
		"set with an empty value is a removal":     set("--v=1\n", "v", "", "--v=\n"),
		"set loses comments":                       set("# --v=9\n\n--v=1\n  # end\n", "v", "2", "# --v=9\n\n--v=2\n  # end\n"),
		"unset removes a substring's lines":        unset("--client-ca-file=a\n--client-ca-file-extra=b\n", "client-ca-file", "--client-ca-file-extra=b\n"),
		"unset removes names that end the same":    unset("--a-b=1\n--b=2\n", "b", "--a-b=1\n"),
		"unset removes commented lines":            unset("# set --b=2 here\n--b=2\n", "b", "# set --b=2 here\n"),
		"unset leaves the form with a space":       unset("--b 2\n--b\n", "b", ""),
		"comments are taken for options":           argv("# --v=1\n   #--w\n--x=1\n", "--x=1"),
		"quotes are deleted wherever they are":     argv(`--j='{"a":"b c"}'`+"\n", `--j={"a":"b c"}`),
		"values with spaces are split":             argv("--labels='a b'\n", "--labels=a b"),
		"a shell runs what stands in a file":       argv("--v=$(id)`id`;$HOME\n", "--v=$(id)`id`;$HOME"),
		"the environment is filled in":             argv("--v=${SNAP_DATA}/x\n", "--v=${SNAP_DATA}/x"),
		"a false after a space turns into true":    argv("--anonymous-auth false\n", "--anonymous-auth=false"),
		"a word after a flag goes to the program":  refused("--a b c\n", "line 1: --a: the value \"b c\" holds a space"),
		"a comment after a value joins the value":  refused("--v=2 # more\n", "line 1: --v: the value"),
		"half-quoted values mean two things":       refused("--l=a=\"b\"\n", "line 1: --l: the value"),
		"an open quote swallows the next lines":    refused("--l=\"b\n--v=1\n", "line 1: --l: the closing quote is missing"),
		"a line without dashes is passed on":       refused("--v=1\nv=2\n", `line 2: "v=2" does not begin with --`),
		"a NUL ends the argument":                  refused("--v=a\x00b\n", "line 1: a NUL byte"),
		"an option's name is anything":             refused("--../x=1\n", "line 1: \"../x\" is not an option's name"),
		"a lone carriage return hides the option":  refused("--v=1\r--w=2\n", "line 1: the control character '\\r'"),
		"text after a quoted value is joined":      refused("--v='a'b\n", "text after the closing quote"),
		"every fault costs another try":            refused("x\n--v=1\ny\n", "line 3:"),
		"a name written in capitals is another":    refused("--V=1\n", "is not an option's name"),
		"a value that is no text reaches programs": refused("--v=\xff\n", "not UTF-8"),
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) { t.Parallel(); run(t) })
	}
}

func TestSetRefusesWhatWouldNotComeBack(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*File) error{
		"newline injects an option": func(f *File) error { return f.Set("v", "1\n--evil=2") },
		"carriage return":           func(f *File) error { return f.Set("v", "1\r") },
		"NUL":                       func(f *File) error { return f.Set("v", "1\x00") },
		"not UTF-8":                 func(f *File) error { return f.Set("v", "\xff") },
		"name with dashes before":   func(f *File) error { return f.Set("--v", "1") },
		"name with =":               func(f *File) error { return f.SetFlag("v=1") },
		"empty name":                func(f *File) error { return f.Set("", "1") },
		"second value bad":          func(f *File) error { return f.SetAll("v", []string{"1", "\n"}) },
		"file too large":            func(f *File) error { return f.Set("v", strings.Repeat("x", MaxFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := mustParse(t, "--v=0\n# end\n")
			if err := call(f); err == nil {
				t.Error("no error")
			}
			wantText(t, f, "--v=0\n# end\n")
		})
	}
}

func TestRepeatedOptionsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	f := mustParse(t, "--h=a\n--v=1\n--h b\n--h\n")
	if got := f.All("h"); !slices.Equal(got, []string{"a", "b", ""}) {
		t.Errorf("All = %q", got)
	}
	if got, _ := f.Get("v"); got != "1" {
		t.Errorf("Get = %q", got)
	}
	if err := f.SetAll("h", []string{"x", "y z"}); err != nil {
		t.Fatal(err)
	}
	wantText(t, f, "--h=x\n--h='y z'\n--v=1\n")
	if err := f.SetAll("h", nil); err != nil {
		t.Fatal(err)
	}
	wantText(t, f, "--v=1\n")
	if err := f.SetFlag("v"); err != nil {
		t.Fatal(err)
	}
	wantText(t, f, "--v\n")
	if o := f.Options(); len(o) != 1 || o[0] != (Option{Name: "v", Line: 1}) {
		t.Errorf("Options = %+v", o)
	}
	if f.Unset("w") || !f.Unset("v") {
		t.Error("Unset does not say what it did")
	}
}

func TestWhatIsSoAlreadyStaysAsItIsWritten(t *testing.T) {
	t.Parallel()
	const text = "# c\r\n\t--v   \"2\"  \r\n--w\r\n"
	f := mustParse(t, text)
	if err := errors.Join(f.Set("v", "2"), f.SetFlag("w")); err != nil {
		t.Fatal(err)
	}
	wantText(t, f, text)
	if err := f.Set("x", "1"); err != nil {
		t.Fatal(err)
	}
	wantText(t, f, text+"--x=1\r\n")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if f, err := Load(file("kubelet", "--v=2\n")); err != nil || len(f.Options()) != 1 {
		t.Errorf("Load: %v", err)
	}
	bad := file("bad", "--v=2\n\nx\n")
	if _, err := Load(bad); err == nil || err.Error() != bad+`:3: "x" does not begin with --: one option a line, --name=value` {
		t.Errorf("error %v", err)
	}
	if _, err := Load(file("large", strings.Repeat("#\n", MaxFile/2)+"#")); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("error %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{pipe, dir} {
		if _, err := Load(p); err == nil || !strings.Contains(err.Error(), "not a file") {
			t.Errorf("%s: error %v", p, err)
		}
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	for _, s := range Services() {
		if !ValidService(s) {
			t.Errorf("%s is not valid", s)
		}
	}
	for _, s := range []string{"", ".", "..", "../credentials/client.config", "kubelet/", "/etc/passwd", "kubelet\x00", "Kubelet", "apiserver"} {
		if ValidService(s) {
			t.Errorf("%q is valid", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "--a=b\n", "# c\r\n--a 'b c'\r\n\r\n--d", "--a=\"x\\\"y\"\n", "\n\n--x\t1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		if got := string(file.Bytes()); got != string(data) {
			t.Errorf("Bytes() = %q, want %q", got, data)
		}
		for _, o := range file.Options() {
			if err := file.SetAll(o.Name, file.All(o.Name)); err != nil {
				t.Errorf("setting what is set: %v", err)
			}
		}
	})
}

func FuzzSet(f *testing.F) {
	f.Add("--a=b\n", "a", "c d")
	f.Add("# x", "n", `'"\`)
	f.Fuzz(func(t *testing.T, text, name, value string) {
		file, err := Parse([]byte(text))
		if err != nil {
			return
		}
		others := slices.DeleteFunc(file.Options(), func(o Option) bool { return o.Name == name })
		if file.Set(name, value) != nil {
			return
		}
		again, err := Parse(file.Bytes())
		if err != nil {
			t.Fatalf("set %q to %q in %q: %v", name, value, text, err)
		}
		if got, ok := again.Get(name); !ok || got != value {
			t.Errorf("got %q, %v; want %q", got, ok, value)
		}
		left := slices.DeleteFunc(again.Options(), func(o Option) bool { return o.Name == name })
		if !slices.EqualFunc(left, others, func(a, b Option) bool { a.Line, b.Line = 0, 0; return a == b }) {
			t.Errorf("other options are %v, were %v", left, others)
		}
		if again.Unset(name); slices.ContainsFunc(again.Options(), func(o Option) bool { return o.Name == name }) {
			t.Error("still there after Unset")
		}
	})
}
