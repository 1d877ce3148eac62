package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	answerPrefix = "answer-"
	// Kept is how long an answer is remembered.
	Kept = 30 * 24 * time.Hour
	// MaxAnswers is how many are; the oldest go first.
	MaxAnswers = 10000
	// pruneEvery is how many answers are given, on average, until old ones are
	// looked for: so many more may be there.
	pruneEvery = 256
)

// answer is one answer that was given. Each is a file of its own, so that
// giving one takes the same time however many there are.
type answer struct {
	To    string          `json:"to"`
	Time  time.Time       `json:"time"`
	Value json.RawMessage `json:"value"`
}

// answerName is the file of the answer to a question.
func answerName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return answerPrefix + hex.EncodeToString(sum[:16]) + ".json"
}

// ErrNoOperation is returned for a question without an operation id.
var ErrNoOperation = errors.New("the question carries no operation id")

// Once gives the same answer to the same question of the same operation. The
// first time f decides, under the folder's lock; its answer and what it wrote
// through l are stored as one, before the answer is returned. Errors are not
// stored, nor what was written before one. What f does elsewhere may happen
// twice, if the process is killed in between. The question should name what
// distinguishes two of one operation, its step for example. Answers are stored
// in clear, in files of 0600; T must survive JSON.
func Once[T any](ctx context.Context, d *Dir, now time.Time, operationID, question string,
	f func(l *Locked) (T, error)) (T, error) {
	var out T
	if operationID == "" {
		return out, ErrNoOperation
	}
	key := operationID + " " + question
	name, given := answerName(key), false
	err := d.Change(ctx, func(l *Locked) error {
		var a answer
		if err := l.Read(name, &a); err != nil {
			return err
		}
		if a.To == key && now.Sub(a.Time) <= Kept {
			if err := json.Unmarshal(a.Value, &out); err != nil {
				return fmt.Errorf("reading the answer given before: %w", err)
			}
			return nil
		}
		var err error
		if out, err = f(l); err != nil {
			return err
		}
		value, err := json.Marshal(out)
		if err != nil {
			return fmt.Errorf("storing the answer: %w", err)
		}
		given = true
		return l.Write(name, answer{To: key, Time: now.UTC(), Value: value})
	})
	if err != nil || !given {
		return out, err
	}
	// The time of writing is the answer's, for whoever looks for old ones.
	if err := os.Chtimes(d.Path(name), now, now); err != nil {
		return out, ignoreMissing(err)
	}
	if sum := sha256.Sum256([]byte(key)); int(sum[31])%pruneEvery == 0 {
		return out, d.prune(now)
	}
	return out, nil
}

// prune drops old answers, and the oldest of too many. It needs no lock: what
// it drops is not read any more, or was long answered.
func (d *Dir) prune(now time.Time) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("dropping old answers: %w", err)
	}
	type file struct {
		name string
		at   time.Time
	}
	var kept []file
	var drop []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), answerPrefix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // another process dropped it
		}
		if now.Sub(info.ModTime()) > Kept {
			drop = append(drop, e.Name())
		} else {
			kept = append(kept, file{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(kept, func(a, b file) int { return a.at.Compare(b.at) })
	for _, f := range kept[:max(0, len(kept)-MaxAnswers)] {
		drop = append(drop, f.name)
	}
	var faults []error
	for _, name := range drop {
		faults = append(faults, ignoreMissing(os.Remove(d.Path(name))))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("dropping old answers: %w", err)
	}
	return nil
}
