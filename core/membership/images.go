package membership

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os/exec"
	"time"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/plugin"
)

// ErrNoArchive says that nothing came where an archive should.
var ErrNoArchive = errors.New("there is no archive in the request")

// ImportImages gives containerd an archive of images as it comes. What is too
// large, breaks off, or has another SHA-256 than sum is refused, and nothing of
// it imported; without a sum, which is hexadecimal, none is compared.
func (n Node) ImportImages(ctx context.Context, archive io.Reader, sum string) error {
	return importArchive(exec.CommandContext(ctx, n.Programs.Bin("ctr"), "--address", n.Defaults().ContainerdSocket(),
		"--namespace", "k8s.io", "images", "import", "--local", "-"), archive, sum, operation.MaxImages)
}

// importArchive gives an archive to a command, and kills it when it is not to
// have all of it.
func importArchive(cmd *exec.Cmd, archive io.Reader, sum string, most int64) error {
	a := newIncoming(archive, sum, most)
	if _, err := a.in.Peek(1); err != nil {
		return fmt.Errorf("%w: %v", ErrNoArchive, err)
	}
	a.refused = func() { _ = cmd.Process.Kill() }
	cmd.Stdin = a
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if a.err != nil {
		return a.err
	}
	if err != nil {
		return fmt.Errorf("import images: %w: %s", err, out[max(0, len(out)-2000):])
	}
	return nil
}

// heldBack is how much of an archive waits until all of it has come and was
// found to be what was said: without its end it is none.
const heldBack = 64 << 10

// incoming is an archive that comes.
type incoming struct {
	in      *bufio.Reader
	bounded *io.LimitedReader
	most    int64
	hash    hash.Hash
	sum     string
	whole   bool
	refused func() // called before the reader of the archive learns that it ends
	err     error  // why it was
}

func newIncoming(from io.Reader, sum string, most int64) *incoming {
	a := &incoming{bounded: &io.LimitedReader{R: from, N: most + 1}, most: most, hash: sha256.New(), sum: sum}
	a.in = bufio.NewReaderSize(io.TeeReader(a.bounded, a.hash), 4*heldBack)
	return a
}

// Read gives what has come, but the end only of what is whole.
func (a *incoming) Read(p []byte) (int, error) {
	if a.whole {
		return a.in.Read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	data, err := a.in.Peek(heldBack + min(len(p), heldBack))
	if err == nil {
		n := copy(p, data[:len(data)-heldBack])
		_, err = a.in.Discard(n)
		return n, err
	}
	if a.err = a.check(err); a.err != nil {
		a.refused()
		return 0, a.err
	}
	a.whole = true
	return a.in.Read(p)
}

// check judges an archive that has ended.
func (a *incoming) check(end error) error {
	switch got := hex.EncodeToString(a.hash.Sum(nil)); {
	case !errors.Is(end, io.EOF):
		return fmt.Errorf("an archive of images breaks off: %w", end)
	case a.bounded.N <= 0:
		return plugin.Errorf(plugin.BadArgument, "an archive of images is larger than %d GiB", a.most>>30)
	case a.sum != "" && got != a.sum:
		return plugin.Errorf(plugin.BadArgument, "what came is not the archive that was to be sent: its SHA-256 is %s, not %s", got, a.sum)
	}
	return nil
}
