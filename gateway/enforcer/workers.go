package enforcer

// spareWorkers is how many goroutines wait for more work.
const spareWorkers = 64

// workers run functions in goroutines that have run others before. A flow's stages need more
// stack than a new goroutine has, and growing it costs more than the
// stages themselves.
type workers struct {
	next  chan func()
	spare chan struct{} // one token for each that may wait
	stop  <-chan struct{}
}

func newWorkers(stop <-chan struct{}) workers {
	return workers{next: make(chan func()), spare: make(chan struct{}, spareWorkers), stop: stop}
}

// run runs f in another goroutine, at once.
func (w *workers) run(f func()) {
	select {
	case w.next <- f: // somebody waits
	default:
		go w.loop(f)
	}
}

func (w *workers) loop(f func()) {
	for {
		f()
		f = nil // what it holds must not outlive it
		select {
		case w.spare <- struct{}{}:
		default:
			return // enough wait
		}
		select {
		case f = <-w.next:
			<-w.spare
		case <-w.stop:
			return
		}
	}
}
