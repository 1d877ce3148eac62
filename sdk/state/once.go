package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

const (
	answersName = "answers.json"
	// Kept is how long an answer is remembered.
	Kept = 30 * 24 * time.Hour
	// MaxAnswers is how many are; the oldest go first.
	MaxAnswers = 10000
)

// answer is one answer that was given.
type answer struct {
	Time  time.Time       `json:"time"`
	Value json.RawMessage `json:"value"`
}

// ErrNoOperation is returned for a question without an operation id.
var ErrNoOperation = errors.New("the question carries no operation id")

// Once gives the same answer to the same question of the same operation. The
// first time f decides, under the folder's lock; its answer and what it wrote
// through l are stored as one, before the answer is returned. Errors are not
// stored, nor what was written before one. What f does elsewhere may happen
// twice, if the process is killed in between. The question should name what
// distinguishes two of one operation, its step for example. Answers are stored
// in clear, in a file of 0600; T must survive JSON.
func Once[T any](ctx context.Context, d *Dir, now time.Time, operationID, question string,
	f func(l *Locked) (T, error)) (T, error) {
	var out T
	if operationID == "" {
		return out, ErrNoOperation
	}
	err := d.Change(ctx, func(l *Locked) error {
		answers := map[string]answer{}
		if err := l.Read(answersName, &answers); err != nil {
			return err
		}
		key := operationID + " " + question
		if a, ok := answers[key]; ok {
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
		if answers == nil { // the file held null
			answers = map[string]answer{}
		}
		answers[key] = answer{Time: now.UTC(), Value: value}
		prune(answers, now)
		return l.Write(answersName, answers)
	})
	return out, err
}

// prune drops old answers, and the oldest of too many.
func prune(answers map[string]answer, now time.Time) {
	maps.DeleteFunc(answers, func(_ string, a answer) bool { return now.Sub(a.Time) > Kept })
	for len(answers) > MaxAnswers {
		oldest := ""
		for k, a := range answers {
			if oldest == "" || a.Time.Before(answers[oldest].Time) {
				oldest = k
			}
		}
		delete(answers, oldest)
	}
}
