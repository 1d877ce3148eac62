package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

const (
	// jotsName holds the answers of OnceUnsynced, each a line that begins with
	// the digest of its question, the newest last. To make a file for each would
	// take a file system as long as the answer itself.
	jotsName = ".answers"
	// maxJots is how large that file grows before the older half of it goes. An
	// answer of more than that half is not kept.
	maxJots = 256 << 10
)

// OnceUnsynced is Once without waiting for the disk, which takes most of its
// time: an answer is kept when the process is killed, and may be lost when the
// machine is. Of all answers the newest 128 KiB stay. Where one is lost f decides
// anew: it is for answers of which two do no harm, such as two certificates for
// one key. f must write nothing through l.
func OnceUnsynced[T any](ctx context.Context, d *Dir, now time.Time, operationID, question string,
	f func(l *Locked) (T, error)) (T, error) {
	var out T
	if operationID == "" {
		return out, ErrNoOperation
	}
	key := operationID + " " + question
	err := d.Change(ctx, func(l *Locked) error {
		text, err := d.jots()
		if err != nil {
			return err
		}
		if a := jotted(text, key); a.To == key && now.Sub(a.Time) <= Kept {
			if err := json.Unmarshal(a.Value, &out); err != nil {
				return fmt.Errorf("reading the answer given before: %w", err)
			}
			return nil
		}
		if out, err = f(l); err != nil {
			return err
		}
		if len(l.staged) > 0 {
			return errors.New("an answer that is not synced comes with nothing that is")
		}
		value, err := json.Marshal(out)
		if err == nil {
			err = d.jot(text, answer{To: key, Time: now.UTC(), Value: value})
		}
		if err != nil {
			return fmt.Errorf("storing the answer: %w", err)
		}
		return nil
	})
	return out, err
}

// jots is the file of answers, until it is read again. Of one that is larger
// than it ever gets the rest is left out.
func (d *Dir) jots() ([]byte, error) {
	f, err := os.Open(d.Path(jotsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the answers: %w", err)
	}
	defer f.Close()
	if d.read == nil {
		d.read = make([]byte, 2*maxJots)
	}
	n, err := io.ReadFull(f, d.read)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("reading the answers: %w", err)
	}
	return d.read[:n], nil
}

// jotKey is what the line of a question's answer begins with.
func jotKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + " "
}

// jotted is the last answer to a question. A line that was cut off is none.
func jotted(text []byte, key string) answer {
	var found answer
	for prefix := []byte(jotKey(key)); ; {
		_, after, ok := bytes.Cut(text, prefix)
		if !ok {
			return found
		}
		line, _, _ := bytes.Cut(after, []byte("\n"))
		var a answer
		if json.Unmarshal(line, &a) == nil {
			found = a
		}
		text = after
	}
}

// jot adds an answer to the text that the file has.
func (d *Dir) jot(text []byte, a answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	line = fmt.Appendf(nil, "%s%s\n", jotKey(a.To), line)
	if len(line) > maxJots/2 {
		return nil
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		line = append([]byte("\n"), line...) // who wrote last was killed
	}
	if len(text)+len(line) > maxJots {
		_, newer, _ := bytes.Cut(text[min(len(text), maxJots/2):], []byte("\n"))
		return d.replace(jotsName, append(bytes.Clone(newer), line...), true)
	}
	f, err := os.OpenFile(d.Path(jotsName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Close())
}
