//go:build unix

package sqlitestore

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// writable returns an error if this process may not read and write the file name, or,
// if that is a directory, make files in it.
func writable(name string) error {
	mode := uint32(unix.R_OK | unix.W_OK)
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		mode = unix.W_OK | unix.X_OK
	}
	return unix.Faccessat(unix.AT_FDCWD, name, mode, unix.AT_EACCESS)
}

// ownerOf returns the owner and the mode of a file, as a clause.
func ownerOf(name string) string {
	info, err := os.Stat(name)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf(", which belongs to %s and has mode %v", userName(int(stat.Uid)), info.Mode())
}

// currentUser returns the name of the user of this process.
func currentUser() string { return userName(os.Geteuid()) }

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}
