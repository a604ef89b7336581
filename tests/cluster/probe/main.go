// probe is the one program of the network matrix's pods.
//
//	probe serve tcp:PORT|udp:PORT...     answers every request with the host's name
//	probe check WAIT tcp:HOST:PORT...    prints "ok" or "no" for each, all at the same time, in order
//	probe write FILE                     writes a file and prints who owns its folder
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fail("usage: probe serve|check|write ...")
	}
	switch args := os.Args[2:]; os.Args[1] {
	case "serve":
		serve(args)
	case "check":
		check(args[0], args[1:])
	case "write":
		write(args[0])
	default:
		fail("unknown: " + os.Args[1])
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

func serve(listeners []string) {
	host, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, host) })
	for _, l := range listeners {
		network, port, _ := strings.Cut(l, ":")
		if network == "tcp" {
			go func() { fail(http.ListenAndServe(":"+port, nil)) }()
			continue
		}
		conn, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			fail(err)
		}
		go func() {
			buffer := make([]byte, 64)
			for {
				if _, from, err := conn.ReadFrom(buffer); err == nil {
					conn.WriteTo([]byte(host), from)
				}
			}
		}()
	}
	select {}
}

func check(wait string, targets []string) {
	limit, err := time.ParseDuration(wait)
	if err != nil {
		fail(err)
	}
	answers := make([]string, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		all.Add(1)
		go func() {
			defer all.Done()
			answers[i] = "no"
			if reaches(target, limit) {
				answers[i] = "ok"
			}
		}()
	}
	all.Wait()
	fmt.Println(strings.Join(answers, "\n"))
}

// reaches: an answer has come back, with something in it. A connection alone could be anybody's.
func reaches(target string, limit time.Duration) bool {
	network, address, _ := strings.Cut(target, ":")
	conn, err := net.DialTimeout(network, address, limit)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return false
	}
	n, _ := conn.Read(make([]byte, 64))
	return n > 0
}

func write(file string) {
	if err := os.WriteFile(file, []byte("written"), 0o600); err != nil {
		fail(err)
	}
	info, err := os.Stat(file[:strings.LastIndex(file, "/")])
	if err != nil {
		fail(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	fmt.Printf("uid %d gid %d mode %v\n", owner.Uid, owner.Gid, info.Mode())
}
