package membership

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"mk8s.io/mk/sdk/plugin"
)

// What is not the whole archive is not imported: whoever reads it is killed
// before it could take an end for the end.
func TestOnlyAWholeArchiveIsImported(t *testing.T) {
	t.Parallel()
	small, large := []byte("archive"), bytes.Repeat([]byte("layer of an image;"), 100_000)
	sum := func(data []byte) string {
		s := sha256.Sum256(data)
		return hex.EncodeToString(s[:])
	}
	for name, c := range map[string]struct {
		from io.Reader
		sum  string
		want []byte // nil: refused
	}{
		"a small one":         {bytes.NewReader(small), sum(small), small},
		"a large one":         {bytes.NewReader(large), sum(large), large},
		"in small pieces":     {iotest.HalfReader(bytes.NewReader(large)), sum(large), large},
		"without a sum":       {bytes.NewReader(large), "", large},
		"another":             {bytes.NewReader(small), sum(large), nil},
		"one that was cut":    {bytes.NewReader(large[:len(large)-1]), sum(large), nil},
		"one that breaks off": {io.MultiReader(bytes.NewReader(large), iotest.ErrReader(io.ErrUnexpectedEOF)), "", nil},
		"one that is larger":  {io.MultiReader(bytes.NewReader(large), strings.NewReader("x")), "", nil},
		"nothing":             {strings.NewReader(""), sum(nil), nil},
	} {
		to := filepath.Join(t.TempDir(), "images")
		err := importArchive(exec.CommandContext(t.Context(), "sh", "-c", `cat >"$1.part" && mv "$1.part" "$1"`, "sh", to), c.from, c.sum, int64(len(large)))
		got, readErr := os.ReadFile(to)
		if c.want != nil && (err != nil || !bytes.Equal(got, c.want)) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
		if c.want == nil && (err == nil || readErr == nil) {
			t.Errorf("%s: %v, %d bytes are imported", name, err, len(got))
		}
		if name == "another" && !errors.Is(err, plugin.BadArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever reads an archive has nothing that would do for it before all came.
func TestAnEndIsHeldBack(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("x"), 5*heldBack)
	a := newIncoming(bytes.NewReader(data), "wrong", 10*heldBack)
	killed := false
	a.refused = func() { killed = true }
	got, err := io.ReadAll(a)
	if len(got) > len(data)-heldBack || err == nil || !killed {
		t.Errorf("%d bytes of %d are given, %v, killed %v", len(got), len(data), err, killed)
	}
}
