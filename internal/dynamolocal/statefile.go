package dynamolocal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/zeroae/zael/internal/tail"
)

func (b *Background) read() (*record, error) {
	text, err := os.ReadFile(b.path("state.json"))
	if err != nil {
		return nil, fmt.Errorf("DynamoDB Local: %w", err)
	}
	r := new(record)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("reading %s: %w: end the process by hand and remove the file", b.path("state.json"), err)
	}
	return r, nil
}

// write is all or nothing.
func (b *Background) write(r *record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path("state.json.new"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(b.path("state.json.new"), b.path("state.json"))
}

// forget removes what one that has ended leaves; not its log.
func (b *Background) forget() error {
	err := os.Remove(b.path("state.json"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(b.path("temp")))
}

// log is the end of the log file.
func (b *Background) log() string {
	text, err := os.ReadFile(b.path("log"))
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-tail.Size):])
}
