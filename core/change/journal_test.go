package change

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mk8s.io/mk/sdk/changeset"
)

// journalOf is the journal of a change that was applied.
func journalOf(t testing.TB, w *world) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, journalName(ID{1, 1})))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A journal holds names, digests and modes only, and nobody else reads it.
func TestJournalHoldsNoContents(t *testing.T) {
	t.Parallel()
	w := crashWorld(t, filepath.Join(t.TempDir(), "node"))
	if err := w.applySet(1, manyChanges()); err != nil {
		t.Fatal(err)
	}
	if data := journalOf(t, w); bytes.Contains(data, []byte("SECRET")) {
		t.Errorf("%s", data)
	}
	info, err := os.Stat(filepath.Join(w.dir, journalName(ID{1, 1})))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// Torn anywhere, the last record counts as never written: what comes next
// finds one of the ends, and can write on.
func TestTornJournal(t *testing.T) {
	t.Parallel()
	ref := newWorld(t)
	ref.mustApply(1, file("a", "2"))
	whole := journalOf(t, ref)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	staging, commit := len(lines[0]), len(lines[0])+len(lines[1])
	applied := commit + len(lines[2])
	for cut := 0; cut < applied; cut += 1 + 5*(cut%2) {
		w := newWorld(t)
		w.put(map[string]string{"a": "1"})
		// What is there besides the journal at that time.
		if cut > staging {
			w.put(map[string]string{".mk-staged-1.1-0": "2"})
		}
		w.put(map[string]string{journalName(ID{1, 1}): string(whole[:cut])})
		if err := w.engine.Recover(t.Context()); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := "-rw------- 1"
		if cut >= commit {
			want = "-rw------- 2"
		}
		if got := w.tree()["a"]; got != want {
			t.Errorf("cut at %d: a is %s, not %s", cut, got, want)
		}
		h, err := w.engine.loadJournal(ID{1, 1})
		if err != nil || !h.closed() {
			t.Errorf("cut at %d: %+v %v", cut, h, err)
		}
	}
}

func TestRefusedJournals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ journal, says string }{
		"newer schema":     {`{"type":"staging","schema":2}` + "\n", "newer mk"},
		"damaged":          {"{\"type\":\"staging\",\"schema\":1}\n\x00\x00\n{\"type\":\"commit\"}\n", "line 2"},
		"begins in middle": {`{"type":"commit"}` + "\n", "cannot follow"},
		"unknown record":   {`{"type":"other"}` + "\n", "cannot follow"},
		"unknown entry":    {`{"type":"staging","schema":1}` + "\n" + `{"type":"commit","entries":[{"kind":"other"}]}` + "\n", "does not know"},
		"leads out":        {`{"type":"staging","schema":1}` + "\n" + `{"type":"commit","entries":[{"kind":"folder","path":"../x","mode":493}]}` + "\n", "not a path below"},
		"impossible index": {`{"type":"staging","schema":1}` + "\n" + `{"type":"commit"}` + "\n" + `{"type":"back","begun":3}` + "\n", "than there is"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := w.tree()
			w.put(map[string]string{journalName(ID{1, 1}): c.journal})
			err := w.apply(2, file("a", "1"))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			if d := diff(before, w.tree()); d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
}

// A number is used once.
func TestSameNumberAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustApply(1, file("a", "1"))
	if err := w.apply(1, file("a", "2")); err == nil {
		t.Error("a second journal was written over the first")
	}
	if got := w.tree()["a"]; got != "-rw-r--r-- 1" {
		t.Error(got)
	}
}

// The newest is the one begun last, whatever its number.
func TestOrderOfTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"a": "0"})
	w.mustApply(8, file("a", "1"))
	w.mustApply(7, file("a", "2"))
	if err := w.engine.Undo(t.Context(), ID{8, 1}); err == nil {
		t.Error("an older one was undone")
	}
	if err := w.engine.Undo(t.Context(), ID{7, 1}); err != nil {
		t.Error(err)
	}
	if got := w.tree()["a"]; got != "-rw-r--r-- 1" {
		t.Error(got)
	}
}

func FuzzReadJournal(f *testing.F) {
	f.Add([]byte(`{"type":"staging","schema":1,"seq":3,"staged":["a/.mk-staged-1.1-0"]}` + "\n" +
		`{"type":"commit","entries":[{"kind":"replace","path":"a/b","staged":"a/.mk-staged-1.1-0","before":"absent"}]}` + "\n" +
		`{"type":"back","begun":1}` + "\n" + `{"type":"took"}` + "\n" + `{"type":"undone"}` + "\n"))
	f.Add([]byte(`{"type":"staging"}` + "\n" + `{"type":"com`))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readJournal(bytes.NewReader(data))
		if err != nil {
			return
		}
		if h.whole < 0 || h.whole > int64(len(data)) || h.begun > len(h.entries) || len(h.taken) > h.begun {
			t.Fatalf("%+v", h)
		}
		again, err := readJournal(bytes.NewReader(data[:h.whole]))
		if err != nil || again.last != h.last || again.whole != h.whole {
			t.Fatalf("cut at its whole records, it reads %+v (%v), not %+v", again, err, h)
		}
	})
}

func TestPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"a": "1", "d/x": "1", "args/etcd": "--a=1\n--b\n", "certs/c": "1", "var/lock/l": ""})
	before := treeOf(t, w.dir, true)
	secret := &write{Path: "s", Content: []byte("SECRET"), Secret: true}
	lines, err := w.engine.Preview(plain(
		file("a", "1"), file("a", "2"), file("b", "2"), file("b", "2"), secret, &mkdir{Path: "d"}, &mkdir{Path: "n/m"},
		&move{From: "d", To: "e"}, file("e/x", "2"), &remove{Path: "a"}, &remove{Path: "a"},
		&setArg{Service: "etcd", Option: "a", Value: value("1")}, &setArg{Service: "etcd", Option: "a", Value: value("2")},
		&setArg{Service: "etcd", Option: "c", Value: value("SECRET"), Secret: true}, &delArg{Service: "etcd", Option: "b"}, &delArg{Service: "etcd", Option: "b"},
		file("certs/c", "2"), file("certs/n", "2"), &remove{Path: "certs/c"},
		&changeset.SetLock{Name: "new"}, &changeset.ClearLock{Name: "l"}, &issue{Profile: "server"}, activation("local"),
		&control{Service: "etcd", Action: changeset.Restart},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"replace", "replace", "create", "nothing", "create", "nothing", "create", "move", "replace", "remove", "nothing",
		"nothing", "replace", "create", "remove", "nothing", "replace", "create", "remove", "create", "remove", "create", "replace", "",
	}
	for i, l := range lines {
		if l.Effect != want[i] {
			t.Errorf("%s %s: %q, not %q", l.Verb, l.Target, l.Effect, want[i])
		}
		if strings.Contains(l.Target, "SECRET") {
			t.Errorf("a value is shown: %+v", l)
		}
	}
	if d := diff(before, treeOf(t, w.dir, true)); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	if len(w.services.calls)+len(w.objects.calls) > 0 {
		t.Errorf("somebody was asked: %q %q", w.services.calls, w.objects.calls)
	}
	if _, err := w.engine.Preview(plain(&move{From: "zz", To: "y"})); err == nil {
		t.Error("a preview shows what an apply refuses")
	}
}

func TestWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(map[string]string{"a": "1", "d/x": "1", "args/etcd": "--a=1\n"})
	w.mustApply(1, file("n", "SECRET"))
	w.mustApply(2, file("a", "2"), file("new", "1"), &remove{Path: "d/x"}, &setArg{Service: "etcd", Option: "a", Value: value("SECRET")},
		file("certs/c", "2"), &control{Service: "etcd", Action: changeset.Restart})
	if err := w.apply(3, file("o", "1"), &move{From: "zz", To: "y"}); err == nil {
		t.Fatal("what is not there was moved")
	}
	lines, err := Written(w.engine.Root, 2)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines {
		got = append(got, l.Verb+" "+l.Target)
	}
	slices.Sort(got)
	if want := []string{"create new", "remove d/x", "replace a", "replace args/etcd", "replace certs", "restart etcd"}; !slices.Equal(got, want) {
		t.Errorf("written: %q, want %q", got, want)
	}
	if lines, err := Written(w.engine.Root, 3); err != nil || len(lines) > 0 {
		t.Errorf("a change that was refused wrote %v, %v", lines, err)
	}
}
