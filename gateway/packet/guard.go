package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// stamp tells one state of the program in the kernel from every other: the kernel gives
// each rule a number of its own that it never gives again. Elements of sets are not in it.
type stamp struct {
	chains string
	rules  string
}

func takeStamp() (stamp, error) {
	c, err := dial()
	if err != nil {
		return stamp{}, err
	}
	l, err := listing(c)
	if err != nil {
		return stamp{}, err
	}
	var s stamp
	for _, ch := range l.chains {
		verdict := "-"
		if ch.Policy != nil {
			verdict = fmt.Sprint(*ch.Policy)
		}
		s.chains += fmt.Sprintf("%s %s\n", ch.Name, verdict)
		rules, err := c.GetRules(kernelTable(), ch)
		if err != nil {
			return stamp{}, fmt.Errorf("listing rules: %w", explain(err))
		}
		for _, r := range rules {
			s.rules += fmt.Sprintf("%s %d\n", ch.Name, r.Handle)
		}
	}
	return s, nil
}

// Errors of Intact.
var (
	ErrProgramGone    = errors.New("the kernel program is gone")
	ErrProgramChanged = errors.New("the kernel program was changed by somebody else")
)

// Intact reports whether the program in the kernel is still the one that was loaded:
// its chains and rules, not the elements of its sets. It is a guard against mistakes,
// such as another program that flushes all of nftables, not against who is root.
func (t *Table) Intact() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := takeStamp()
	switch {
	case err != nil:
		return err
	case now.chains == "": // whatever the stamp: it may have been taken just after a flush
		return ErrProgramGone
	case now == t.stamp:
		return nil
	}
	return ErrProgramChanged
}

// Restore puts back what makes the kernel route for agents, beside the program: Load
// puts that back.
func (t *Table) Restore() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return prepareHost(t.cfg.Agents)
}

// Watch calls changed when somebody, Load included, has changed chains or rules of any
// table, until ctx ends. It is quick and not complete: ask Intact now and then, too.
func (t *Table) Watch(ctx context.Context, changed func()) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	if err := c.SetBPF(structural()); err != nil {
		return fmt.Errorf("watching nftables: %w", err)
	}
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watching nftables: %w", explain(err))
	}
	for {
		_, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("watching nftables: %w", err)
		}
		changed()
	}
}

// structural keeps the elements of the gate, which come and go with every answer, from
// waking us: it passes what begins with a message about tables, chains, rules or sets. The
// low byte of a message's type stands at offset 4 (linux/netlink.h), or 5 on big-endian machines.
func structural() []bpf.RawInstruction {
	pass := []uint32{unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET}
	at := uint32(4)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		at++
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: at, Size: 1}}
	for i, kind := range pass {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: kind, SkipTrue: uint8(len(pass) - i)})
	}
	program = append(program, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 1 << 18})
	raw, err := bpf.Assemble(program)
	if err != nil {
		panic(err) // a constant program
	}
	return raw
}
