// Server answers every request on :8081 with its name, the argument it was started with.
//
//	CGO_ENABLED=0 go build -o server . && ./server alice
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const address = ":8081"

func main() {
	if len(os.Args) != 2 || os.Args[1] == "" {
		fmt.Fprintln(os.Stderr, "usage: server NAME")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// serve answers until SIGTERM or SIGINT, then lets the requests under way finish.
func serve(name string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	// A container's first process has no default action for signals: without this, `stop` would wait, then kill.
	stopping, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()

	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Println("req")
			fmt.Fprintln(w, name)
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stopped := make(chan error, 1)
	go func() {
		<-stopping.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()

	fmt.Println(name, "listen", address) // the socket listens already: a client may connect from here on
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
