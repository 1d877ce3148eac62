package args

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// story runs owners' changes on a file, storing and reading the owners in
// between, as separate runs of mk do.
type story struct {
	t      *testing.T
	text   string
	owners []byte
}

func (s *story) do(change func(*File) error) {
	s.t.Helper()
	var o Owners
	if err := o.Unmarshal(s.owners); err != nil {
		s.t.Fatal(err)
	}
	f := mustParse(s.t, s.text)
	if err := f.Own(&o, "kubelet"); err != nil {
		s.t.Fatal(err)
	}
	if err := change(f); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if s.owners, err = o.Marshal(); err != nil {
		s.t.Fatal(err)
	}
	s.text = string(f.Bytes())
}

// play understands "A=v" (owner A sets it), "A-" (A takes it back), "A!" (A
// wants it absent), "A+" (A sets the flag) and ":v" (a person sets v).
func (s *story) play(steps string) {
	s.t.Helper()
	for step := range strings.FieldsSeq(steps) {
		s.do(func(f *File) error {
			owner, rest := step[:1], step[1:]
			switch {
			case owner == ":":
				return f.Set("x", rest)
			case rest == "-":
				_, err := f.UnsetOwned(owner, "x")
				return err
			case rest == "!":
				return f.SetAllOwned(owner, "x", nil)
			case rest == "+":
				return f.SetFlagOwned(owner, "x")
			default:
				return f.SetOwned(owner, "x", rest[1:])
			}
		})
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	const none, base = "# c\n--y=1\n", "# c\n--x  'old'\n--y=1\n"
	tests := map[string]struct{ start, steps, want string }{
		"one sets and goes, there was none":           {none, "A=1 A-", none},
		"one sets and goes, byte for byte":            {base, "A=1 A-", base},
		"several lines come back":                     {"--x=1\n--x 2\n", "A=9 A-", "--x=1\n--x 2\n"},
		"a flag comes back":                           {"--x\n", "A=9 A-", "--x\n"},
		"one wants a flag":                            {base, "A+", "# c\n--x\n--y=1\n"},
		"one wants it absent and goes":                {"--y=1\n--x=1\n", "A!  A-", "--y=1\n--x=1\n"},
		"A, B, A goes: B's stays":                     {base, "A=1 B=2 A-", "# c\n--x=2\n--y=1\n"},
		"A, B, A goes, B goes: what A found":          {base, "A=1 B=2 A- B-", base},
		"A, B, B goes: A's":                           {base, "A=1 B=2 B-", "# c\n--x=1\n--y=1\n"},
		"A, B, B goes, A goes":                        {base, "A=1 B=2 B- A-", base},
		"A again below B changes nothing yet":         {base, "A=1 B=2 A=3", "# c\n--x=2\n--y=1\n"},
		"A again below B, B goes":                     {base, "A=1 B=2 A=3 B-", "# c\n--x=3\n--y=1\n"},
		"A twice counts once":                         {base, "A=1 A=2 A-", base},
		"a person's change outlives the owner":        {base, "A=1 :mine A-", "# c\n--x=mine\n--y=1\n"},
		"an owner after a person gives back theirs":   {base, "A=1 :mine B=2 B-", "# c\n--x=mine\n--y=1\n"},
		"and with the first owner gone":               {base, "A=1 :mine B=2 A- B-", "# c\n--x=mine\n--y=1\n"},
		"an owner that insists":                       {base, "A=1 :mine A=1", "# c\n--x=1\n--y=1\n"},
		"an owner that insists and goes":              {base, "A=1 :m1 A=1 :m2 A=1 A-", "# c\n--x=m2\n--y=1\n"},
		"going without having come changes nothing":   {base, "A=1 B-", "# c\n--x=1\n--y=1\n"},
		"going twice":                                 {base, "A=1 A- A-", base},
		"a person says the same as the owner":         {base, "A=1 :1 A-", base},
		"values with quotes":                          {base, `A='" B=2 B-`, "# c\n--x=\"'\\\"\"\n--y=1\n"},
		"three owners, the middle goes, then the 3rd": {base, "A=1 B=2 C=3 B- C-", "# c\n--x=1\n--y=1\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &story{t: t, text: tt.start}
			s.play(tt.steps)
			if s.text != tt.want {
				t.Errorf("text is\n%q, want\n%q", s.text, tt.want)
			}
		})
	}
}

func TestOwnersLeaveNoTraceWhenTheLastGoes(t *testing.T) {
	t.Parallel()
	s := &story{t: t, text: "--x=0\n"}
	s.play("A=1 :mine B=2 A- B-")
	var empty Owners
	want, err := empty.Marshal()
	if err != nil || string(s.owners) != string(want) {
		t.Errorf("owners are %s, want %s (%v)", s.owners, want, err)
	}
}

func TestWhoOwnsWhat(t *testing.T) {
	t.Parallel()
	var o Owners
	f := mustParse(t, "")
	if err := f.SetOwned("A", "x", "1"); !errors.Is(err, ErrNoOwners) {
		t.Errorf("error %v", err)
	}
	if err := f.Own(&o, "../x"); err == nil {
		t.Error("a path is taken for a service")
	}
	err := errors.Join(f.Own(&o, "kubelet"), f.SetOwned("addons/dns", "x", "1"), f.SetOwned("addons/dns", "a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Set("x", "2"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.UnsetOwned("addons/dns", "x"); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Get("x"); !ok || got != "2" {
		t.Errorf("what a person made of it became %q", got)
	}
	for _, owner := range []string{"", "a b", "a\nb", strings.Repeat("a", 300)} {
		if err := f.SetOwned(owner, "x", "1"); err == nil {
			t.Errorf("owner %q is taken", owner)
		}
	}
}

func TestOwnersDocumentIsJudged(t *testing.T) {
	t.Parallel()
	doc := func(s string) string { return `{"schema":1,"services":` + s + `}` }
	for name, text := range map[string]string{
		"no JSON":         "x",
		"newer":           `{"schema":2,"services":{}}`,
		"unknown field":   `{"schema":1,"services":{},"x":1}`,
		"text after":      doc(`{}`) + "x",
		"path as service": doc(`{"../x":{}}`),
		"bad name":        doc(`{"kubelet":{"X":[]}}`),
		"no base":         doc(`{"kubelet":{"x":[{"owner":"A","lines":[]}]}}`),
		"other option":    doc(`{"kubelet":{"x":[{"lines":["--y=1"]},{"owner":"A","lines":[]}]}}`),
		"comment":         doc(`{"kubelet":{"x":[{"lines":["# x"]},{"owner":"A","lines":[]}]}}`),
		"two lines":       doc(`{"kubelet":{"x":[{"lines":["--x=1\n--y=2"]},{"owner":"A","lines":[]}]}}`),
		"owner twice":     doc(`{"kubelet":{"x":[{"lines":[]},{"owner":"A","lines":[]},{"owner":"A","lines":[]}]}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o Owners
			if err := o.Unmarshal([]byte(text)); err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzOwners(f *testing.F) {
	f.Add([]byte(`{"schema":1,"services":{"kubelet":{"x":[{"lines":["--x=1"]},{"owner":"A","lines":["--x=2"]}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o, again Owners
		if o.Unmarshal(data) != nil {
			return
		}
		text, err := o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Unmarshal(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		file := &File{eol: "\n"}
		if err := file.Own(&again, "kubelet"); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(again.services["kubelet"])) {
			if _, err := file.UnsetOwned("A", name); err != nil {
				t.Error(err)
			}
		}
	})
}
