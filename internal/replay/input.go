package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxRow bounds a row, in bytes: a quote that is never closed would otherwise
// read the rest of the file into memory.
const maxRow = 16 << 20

var errLongRow = errors.New("row too long")

// openText returns the text in r: decompressed if it is gzip, and without a
// byte order mark.
func openText(r io.Reader) (*bufio.Reader, error) {
	text := bufio.NewReaderSize(r, 1<<16)
	start, err := peek(text, 6)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(start, []byte("\x1f\x8b")) {
		unzipped, err := gzip.NewReader(text)
		if err != nil {
			return nil, fmt.Errorf("reading: %w", err)
		}
		text = bufio.NewReaderSize(unzipped, 1<<16)
		if start, err = peek(text, 6); err != nil {
			return nil, err
		}
	}
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")):
		_, err = text.Discard(3)
		return text, err
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return nil, errors.New("the text is UTF-16: save it as UTF-8")
	}
	for magic, kind := range map[string]string{
		"\x28\xb5\x2f\xfd": "zstd", "BZh": "bzip2", "\xfd7zXZ\x00": "xz", "PK\x03\x04": "zip", "PAR1": "Parquet",
	} {
		if bytes.HasPrefix(start, []byte(magic)) {
			return nil, fmt.Errorf("the file is %s: make it CSV or JSON lines, plain or compressed with gzip", kind)
		}
	}
	return text, nil
}

// peek returns the next n bytes without consuming them; fewer at the end, or if r
// buffers fewer.
func peek(r *bufio.Reader, n int) ([]byte, error) {
	next, err := r.Peek(n)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return next, nil
}

// peekLine returns the first line that is not blank, without consuming it; only
// its beginning if r does not buffer all of it.
func peekLine(r *bufio.Reader) (string, error) {
	for n := 1; ; n = r.Buffered() + 1 {
		next, err := peek(r, n)
		if err != nil {
			return "", err
		}
		more := len(next) == n
		next, _ = r.Peek(r.Buffered())
		line, _, whole := bytes.Cut(bytes.TrimLeft(next, " \t\r\n"), []byte("\n"))
		if whole || !more {
			return string(line), nil
		}
	}
}

// openSource returns the rows in r, in the format that o names or else in the
// one that the first line shows: JSON lines begin with a brace.
func openSource(r io.Reader, o *Options) (source, error) {
	text, err := openText(r)
	if err != nil {
		return nil, err
	}
	line, err := peekLine(text)
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(line, 0) {
		return nil, errors.New("the file is not text")
	}
	format := o.Format
	if format == "" && (o.Delimiter != 0 || o.Columns != nil) {
		format = FormatCSV
	}
	inArray, array := strings.CutPrefix(line, "[")
	inArray = strings.TrimSpace(inArray)
	switch {
	case format == FormatCSV:
		return openCSV(text, line, o)
	case array && (inArray == "" || inArray[0] == '{'):
		return nil, errors.New("the file is a JSON array: make it JSON lines, as jq -c '.[]' does")
	case format == FormatJSONLines, strings.HasPrefix(line, "{"):
		return openJSON(text)
	}
	return openCSV(text, line, o)
}
