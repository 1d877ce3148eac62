package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	tailLines = 50
	// helpLines is how much help a program may print behind what is wrong with
	// an option.
	helpLines = 500
	tailBytes = 64 << 10
	maxLine   = 400
	leastFree = 1 << 20 // of a disk that is not full
)

// LastError says that the disk is full, where it is; else it returns the last
// line of the log file at path, within its last 50
// lines and not before the offset from, that looks like an error; without one an option that was refused, with help
// behind it; else the last line; without a file an empty string. It reads a bounded piece and never fails: a log that cannot
// be read is told in the line itself.
func LastError(path string, from int64) string {
	if says := FullDisk(filepath.Dir(path)); says != "" {
		return says // a program that ends for it cannot even write so
	}
	lines, err := tail(path, helpLines, from)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return ""
	case err != nil:
		return fmt.Sprintf("(log not readable: %v)", err)
	}
	last := lines[max(0, len(lines)-tailLines):]
	if !slices.ContainsFunc(last, looksLikeError) {
		for i, line := range slices.Backward(lines) {
			if refusesOption(line) && isHelp(lines[i+1:]) {
				return line
			}
		}
	}
	return PickError(last)
}

// FullDisk says of a folder's disk that nothing can be written to it, else nothing.
func FullDisk(dir string) string {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return ""
	}
	free := disk.Bfree * uint64(disk.Bsize) //nolint:gosec // a size
	if disk.Blocks == 0 || free >= leastFree {
		return ""
	}
	return fmt.Sprintf("the disk of %s is full: %d KiB are free", dir, free>>10)
}

// refusesOption tells what Go's package flag says of an option, before the help.
func refusesOption(line string) bool {
	return strings.HasPrefix(line, "flag provided but not defined: ") || strings.HasPrefix(line, "invalid value ") ||
		strings.HasPrefix(line, "invalid boolean value ") || strings.HasPrefix(line, "flag needs an argument: ")
}

// isHelp tells help from what a program writes when it runs.
func isHelp(lines []string) bool {
	return len(lines) > 0 && strings.HasPrefix(strings.ToLower(lines[0]), "usage")
}

// Size is the size of the file at path, 0 where there is none: the offset at
// which a process started now begins to write.
func Size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func tail(path string, n int, from int64) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("log %s is not a file", path)
	}
	if from > info.Size() { // rotated since
		from = 0
	}
	offset := max(from, info.Size()-tailBytes)
	buf := make([]byte, info.Size()-offset)
	got, err := f.ReadAt(buf, offset)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read log: %w", err)
	}
	buf = buf[:got]
	if offset > from {
		if i := bytes.IndexByte(buf, '\n'); i >= 0 {
			buf = buf[i+1:]
		}
	}
	return splitLines(buf, n), nil
}

func splitLines(buf []byte, n int) []string {
	var lines []string
	for len(buf) > 0 && len(lines) < n {
		buf = bytes.TrimRight(buf, "\r\n \t")
		i := bytes.LastIndexByte(buf, '\n')
		if line := clean(string(buf[i+1:])); line != "" {
			lines = append([]string{line}, lines...)
		}
		buf = buf[:max(i, 0)]
	}
	return lines
}

// clean makes a line safe to print on a terminal and short.
func clean(line string) string {
	line = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, ""))
	line = strings.TrimSpace(line)
	if len(line) <= maxLine {
		return line
	}
	cut := maxLine
	for !utf8.RuneStart(line[cut]) {
		cut--
	}
	return line[:cut] + "…"
}

// PickError returns the last line that looks like an error; without one the
// last line; without lines an empty string. Known are klog's E and F, logrus'
// and slog's level=error|fatal, JSON levels, the Go runtime's panic and fatal
// error, and programs that begin with "error:".
func PickError(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if looksLikeError(lines[i]) {
			return lines[i]
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

func looksLikeError(line string) bool {
	ok, _ := regexp.MatchString(errorPattern, line)
	return ok
}

const errorPattern = `^[EF]\d{4} \d\d:\d\d:\d\d` +
	`|(?i)\blevel="?(error|fatal|panic|crit)` +
	`|(?i)"level":\s*"(error|fatal|panic|dpanic|crit)` +
	`|^(panic: |fatal error: |runtime: )` +
	`|^(?i)(error|fatal)\b` +
	`|\s\[?(ERROR|FATAL)\]?[\s:]`
