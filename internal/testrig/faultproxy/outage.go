package faultproxy

import (
	"errors"
	"net/http"
	"time"
)

// Outage is a state in which no request reaches the engine, whatever the plan says.
type Outage uint8

// Outages.
const (
	Up        Outage = iota // none: the plan holds
	Refused                 // nobody listens: connections are refused, and those there are ended
	BlackHole               // connections are accepted, and requests never answered
	Denied                  // access denied, 400
)

// Set begins an outage, or with Up ends it. Requests that came before stay as
// they are, except for Refused, which cuts them off. The error is that of listening
// again, if somebody has taken the address.
func (p *Proxy) Set(o Outage) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("faultproxy: closed")
	}
	p.outage = o
	if o == Refused {
		if p.server != nil {
			_ = p.server.Close()
			p.server = nil
		}
		return nil
	}
	if p.server != nil {
		return nil
	}
	return p.listenAgain()
}

// listenAgain is listen on an address that was given up: another connection's
// other end may have it for a moment.
func (p *Proxy) listenAgain() error {
	end := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.listen()
		if err == nil || time.Now().After(end) {
			return err
		}
		<-tick.C
	}
}

func (p *Proxy) action(header http.Header, body []byte) Action {
	p.mu.Lock()
	outage := p.outage
	p.mu.Unlock()
	switch outage {
	case BlackHole, Refused: // in the instant before the connection is gone
		return Action{Fault: Hang}
	case Denied:
		return Action{Fault: Deny}
	}
	if p.config.Plan == nil {
		return Action{}
	}
	return p.config.Plan(header, body)
}
