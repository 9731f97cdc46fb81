package edits_test

import (
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
)

func TestCheckParent(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	parents := map[string]string{"key": "", "team": "division", "division": "", "lost": "deleted", "ring-1": "ring-2", "ring-2": "ring-1", "below": "key"}
	above := func(id string) (string, bool, error) {
		if id == "broken" {
			return "", false, broken
		}
		parent, created := parents[id]
		return parent, created, nil
	}
	for _, tc := range []struct {
		id, parent string
		want       error
	}{
		{"key", "team", nil},
		{"key", "", nil},
		{"key", "lost", nil},   // one above it was deleted
		{"key", "ring-1", nil}, // a ring that others have made, in which it is not
		{"key", "key", zael.ErrParentCycle},
		{"key", "below", zael.ErrParentCycle},
		{"division", "team", zael.ErrParentCycle},
		{"key", "nobody", zael.ErrEntityNotFound},
		{"nobody", "team", zael.ErrEntityNotFound},
		{"nobody", "", zael.ErrEntityNotFound},
		{"key", "broken", broken},
		{"broken", "team", broken},
	} {
		if err := edits.CheckParent(tc.id, tc.parent, above); !errors.Is(err, tc.want) {
			t.Errorf("%q under %q: got %v, want %v", tc.id, tc.parent, err, tc.want)
		}
	}
}

func TestChangeSettings(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1000)
	edit := func(action zael.AuditAction, mode zael.FailureMode) *zael.Edit {
		return &zael.Edit{Event: zael.AuditEvent{Time: at, Action: action}, FailureMode: mode}
	}
	disabled := zael.Settings{Switch: zael.Disabled, Rev: 5}
	open := zael.Settings{FailureMode: zael.FailOpen, Rev: 5}
	for _, tc := range []struct {
		edit   *zael.Edit
		have   zael.Settings
		latest int64
		want   zael.Settings
	}{
		{edit(zael.SwitchDisabled, 0), zael.Settings{}, 0, zael.Settings{Switch: zael.Disabled, Rev: 1000}},
		{edit(zael.SwitchDisabled, 0), zael.Settings{}, 1000, zael.Settings{Switch: zael.Disabled, Rev: 1001}},
		{edit(zael.SwitchEnabled, 0), zael.Settings{Switch: zael.Disabled, Rev: 2000}, 10, zael.Settings{Switch: zael.Enabled, Rev: 2001}},
		{edit(zael.SwitchRemoved, 0), disabled, 5, zael.Settings{Rev: 1000}},
		{edit(zael.SwitchRemoved, 0), open, 5, open},
		{edit(zael.FailureModeSet, zael.FailOpen), disabled, 5, zael.Settings{Switch: zael.Disabled, FailureMode: zael.FailOpen, Rev: 1000}},
		{edit(zael.FailureModeRemoved, 0), open, 5, zael.Settings{Rev: 1000}},
		{edit(zael.FailureModeRemoved, 0), disabled, 5, disabled},
	} {
		got := tc.have
		changed := edits.ChangeSettings(tc.edit, &got, tc.latest)
		if got != tc.want || changed != (tc.want != tc.have) {
			t.Errorf("%s of %+v: got %+v, changed %v; want %+v", tc.edit.Event.Action, tc.have, got, changed, tc.want)
		}
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	move := func(action zael.AuditAction) edits.Move {
		m, err := edits.MoveOf(&zael.AuditEvent{Action: action})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	register, remove, restore := move(zael.NamespaceRegistered), move(zael.NamespaceRemoved), move(zael.NamespaceRecovered)
	for _, tc := range []struct {
		name  string
		move  edits.Move
		state zael.NamespaceState // "": not registered
		made  bool
		want  error
	}{
		{"register", register, "", false, nil},
		{"register", register, zael.NamespaceActive, true, nil},
		{"register", register, zael.NamespaceDeleted, true, nil},
		{"remove", remove, zael.NamespaceActive, false, nil},
		{"remove", remove, zael.NamespaceDeleted, false, zael.ErrNamespaceState},
		{"remove", remove, "", false, zael.ErrNamespaceNotFound},
		{"recover", restore, zael.NamespaceDeleted, false, nil},
		{"recover", restore, zael.NamespacePurging, false, zael.ErrNamespaceState},
		{"recover", restore, "", false, zael.ErrNamespaceNotFound},
		{"purge", edits.Purge, zael.NamespaceDeleted, false, nil},
		{"purge", edits.Purge, zael.NamespacePurging, true, nil},
		{"purge", edits.Purge, zael.NamespaceActive, false, zael.ErrNamespaceState},
		{"purge", edits.Purge, "", false, zael.ErrNamespaceNotFound},
	} {
		made, err := tc.move.Check("n", &zael.Namespace{State: tc.state}, tc.state != "")
		if made != tc.made || !errors.Is(err, tc.want) {
			t.Errorf("%s one that is %q: got %v, %v; want %v, %v", tc.name, tc.state, made, err, tc.made, tc.want)
		}
	}
	if _, err := edits.MoveOf(&zael.AuditEvent{Action: zael.LimitsSet}); err == nil {
		t.Error("limits_set as a move: got no error")
	}
}
