package packet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explain adds to an error of the kernel what a person can do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: CAP_NET_ADMIN is missing; run as root or grant it", err)
	case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("%w: the batch exceeds the socket's buffer; raise net.core.wmem_max or run in the initial user namespace", err)
	}
	return err
}
