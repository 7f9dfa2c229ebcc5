package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Overlay gives the host folders of its own over those of this machine: what is written there
// stays in the lab. The resolver and the names that the host was made with stay, too.
func (h *Host) Overlay(folders ...string) error {
	kept := map[string][]byte{}
	return h.onHolder(func() error {
		for _, name := range []string{"/etc/resolv.conf", "/etc/hosts"} {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			kept[name] = data
		}
		for _, folder := range folders {
			work := filepath.Join(h.dir, "work", folder)
			for _, dir := range []string{h.Disk(folder), work} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
			}
			if err := unix.Mount("overlay", folder, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", folder, h.Disk(folder), work)); err != nil {
				return fmt.Errorf("host %s: its own %s: %w", h.Name, folder, err)
			}
		}
		for name, data := range kept {
			if !slices.Contains(folders, filepath.Dir(name)) {
				continue
			}
			if err := os.Remove(name); err != nil { // it may be a link
				return err
			}
			if err := os.WriteFile(name, data, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// Disk is where this machine sees what the host has written below a folder that Overlay gave it.
func (h *Host) Disk(name string) string { return filepath.Join(h.dir, "disk", name) }

// WriteFile writes a file as the host sees it, below a folder that Overlay gave it.
func (h *Host) WriteFile(name string, data []byte, mode os.FileMode) error {
	return h.onHolder(func() error {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, data, mode); err != nil {
			return err
		}
		return os.Chmod(name, mode) // whatever the umask
	})
}

// ReadFile reads a file as the host sees it.
func (h *Host) ReadFile(name string) (data []byte, err error) {
	err = h.onHolder(func() (err error) {
		data, err = os.ReadFile(name)
		return err
	})
	return data, err
}
