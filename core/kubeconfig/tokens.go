package kubeconfig

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Token is a line of known_tokens.csv, the API server's --token-auth-file.
type Token struct {
	Token  string
	User   string
	UID    string
	Groups []string
}

// String never shows the token.
func (t Token) String() string { return fmt.Sprintf("%s (%s) %v", t.User, t.UID, t.Groups) }

// maxTokens bounds the lines of the file.
const maxTokens = 10000

// FormatTokens is the text of known_tokens.csv: token,user,uid,"group1,group2". It refuses what ParseTokens would.
func FormatTokens(tokens []Token) ([]byte, error) {
	var b bytes.Buffer
	for _, t := range tokens {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("write tokens: user %.80q: %w", t.User, err)
		}
		fmt.Fprintf(&b, "%s,%s,%s", t.Token, t.User, t.UID)
		if len(t.Groups) > 0 {
			fmt.Fprintf(&b, ",%q", strings.Join(t.Groups, ","))
		}
		b.WriteByte('\n')
	}
	if _, err := ParseTokens("known_tokens.csv", b.Bytes()); err != nil {
		return nil, fmt.Errorf("write tokens: %w", err)
	}
	return b.Bytes(), nil
}

// ParseTokens reads known_tokens.csv as strictly as the API server does, and a little more: a token that is there twice
// would silently be the last one's. Errors have file and line, and no token.
func ParseTokens(file string, data []byte) ([]Token, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d allowed", file, len(data), MaxSize)
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1
	var out []Token
	var faults []error
	seen := map[string]int{}
	for len(faults) < maxFaults {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if perr, ok := errors.AsType[*csv.ParseError](err); ok {
			faults = append(faults, fmt.Errorf("%s:%d: %w", file, perr.Line, perr.Err))
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		line, _ := r.FieldPos(0)
		t, err := tokenOf(rec)
		if err == nil && seen[t.Token] > 0 {
			err = fmt.Errorf("the token is line %d's already", seen[t.Token])
		}
		if err == nil && len(out) == maxTokens {
			return nil, fmt.Errorf("%s:%d: more than %d tokens", file, line, maxTokens)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", file, line, err))
			continue
		}
		seen[t.Token] = line
		out = append(out, t)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return out, nil
}

func tokenOf(rec []string) (Token, error) {
	if len(rec) < 3 || len(rec) > 4 {
		return Token{}, fmt.Errorf("%d fields; expected token,user,uid or token,user,uid,\"groups\"", len(rec))
	}
	t := Token{Token: rec[0], User: rec[1], UID: rec[2]}
	if len(rec) == 4 && rec[3] != "" {
		t.Groups = strings.Split(rec[3], ",")
	}
	return t, t.check()
}

func (t Token) check() error {
	if len(t.Token) < 16 || len(t.Token) > 1024 {
		return fmt.Errorf("a token has 16 to 1024 characters, not %d", len(t.Token))
	}
	if t.User == "" || t.UID == "" {
		return errors.New("user and uid are needed")
	}
	for _, s := range slices.Concat([]string{t.Token, t.User, t.UID}, t.Groups) {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,"\`, r) }) {
			return errors.New("fields are not empty and have no spaces, quotes, commas, backslashes or letters outside ASCII")
		}
	}
	return nil
}
