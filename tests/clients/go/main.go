// A driver of github.com/nshafer/phx, as adapters/driver.mjs describes them.
package main

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nshafer/phx"
)

type command struct {
	ID      int            `json:"id"`
	Do      string         `json:"do"`
	URL     string         `json:"url"`
	Params  map[string]any `json:"params"`
	Topic   string         `json:"topic"`
	Event   string         `json:"event"`
	Payload any            `json:"payload"`
}

type answer struct {
	ID       int    `json:"id"`
	Status   string `json:"status"`
	Response any    `json:"response"`
}

type driver struct {
	out      sync.Mutex
	mutex    sync.Mutex
	socket   *phx.Socket
	channels map[string]*phx.Channel
	// What was asked, and answers that came before their reference was known: the library tells it after it has sent.
	waiting map[phx.Ref]int
	early   map[phx.Ref]any
}

func (d *driver) tell(message any) {
	d.out.Lock()
	defer d.out.Unlock()
	line, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}

func (d *driver) reply(id int, payload any) {
	reply, ok := payload.(map[string]any)
	if !ok {
		panic("a reply without status")
	}
	d.tell(answer{id, reply["status"].(string), reply["response"]})
}

func (d *driver) connect(c command) error {
	end, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	query := end.Query()
	for key, value := range c.Params {
		query.Set(key, value.(string))
	}
	end.RawQuery = query.Encode()
	d.socket = phx.NewSocket(end)
	d.socket.ReconnectAfterFunc = func(int) time.Duration { return 50 * time.Millisecond }
	d.socket.OnMessage(d.heard)
	return d.socket.Connect()
}

// heard sees every message there is; the library runs it in a goroutine of its own for each, so that order is lost.
func (d *driver) heard(message phx.Message) {
	if message.Event == string(phx.ReplyEvent) {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		if id, ok := d.waiting[message.Ref]; ok {
			delete(d.waiting, message.Ref)
			d.reply(id, message.Payload)
		} else {
			d.early[message.Ref] = message.Payload
		}
	} else if !strings.HasPrefix(message.Event, "phx_") {
		d.tell(map[string]any{"topic": message.Topic, "event": message.Event, "payload": message.Payload})
	}
}

func (d *driver) join(c command) error {
	channel := d.socket.Channel(c.Topic, map[string]string{})
	channel.RejoinAfterFunc = func(int) time.Duration { return 50 * time.Millisecond }
	answered := sync.Once{}
	channel.OnJoin(func(response any) {
		d.tell(map[string]any{"topic": c.Topic, "joined": response})
		answered.Do(func() { d.tell(answer{c.ID, "ok", response}) })
	})
	d.mutex.Lock()
	d.channels[c.Topic] = channel
	d.mutex.Unlock()
	push, err := channel.Join()
	if err != nil {
		return err
	}
	push.Receive("error", func(response any) {
		answered.Do(func() { d.tell(answer{c.ID, "error", response}) })
	})
	return nil
}

func (d *driver) push(c command) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	ref, err := d.socket.Push(c.Topic, c.Event, c.Payload, d.channels[c.Topic].JoinRef())
	if err != nil {
		return err
	}
	if payload, ok := d.early[ref]; ok {
		delete(d.early, ref)
		d.reply(c.ID, payload)
	} else {
		d.waiting[ref] = c.ID
	}
	return nil
}

func (d *driver) cast(c command) error {
	_, err := d.channels[c.Topic].Push(c.Event, c.Payload)
	d.tell(answer{c.ID, "ok", nil})
	return err
}

func (d *driver) leave(c command) error {
	channel := d.channels[c.Topic]
	push, err := channel.Leave()
	if err != nil {
		return err
	}
	push.Receive("ok", func(response any) {
		// Its own handler closes the channel in another goroutine.
		for !channel.IsClosed() {
			time.Sleep(time.Millisecond)
		}
		if err := channel.Remove(); err != nil {
			panic(err)
		}
		d.tell(answer{c.ID, "ok", response})
	})
	return nil
}

func (d *driver) obey(c command) error {
	switch c.Do {
	case "connect":
		err := d.connect(c)
		for err == nil && !d.socket.IsConnected() {
			time.Sleep(time.Millisecond)
		}
		if err == nil {
			d.tell(answer{c.ID, "ok", nil})
		}
		return err
	case "join":
		return d.join(c)
	case "push":
		return d.push(c)
	case "cast":
		return d.cast(c)
	case "leave":
		return d.leave(c)
	}
	panic("unknown command " + c.Do)
}

func main() {
	// The library sends a push before it listens for the answer. One thread at a time makes that order safe.
	runtime.GOMAXPROCS(1)
	d := &driver{channels: map[string]*phx.Channel{}, waiting: map[phx.Ref]int{}, early: map[phx.Ref]any{}}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 16<<20)
	for input.Scan() {
		var c command
		if err := json.Unmarshal(input.Bytes(), &c); err != nil {
			panic(err)
		}
		if err := d.obey(c); err != nil {
			d.tell(answer{c.ID, "failed", err.Error()})
		}
	}
}
