package dynamolocal

import (
	"context"

	"github.com/zeroae/zael/internal/background"
)

// Sums are the jars and their SHA-256.
func Sums() []byte { return mustRead("engine/jars.sha256") }

// Pom is what Maven is given.
func Pom() []byte { return mustRead("engine/pom.xml") }

func mustRead(name string) []byte {
	text, err := engine.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return text
}

// OnPorts has Start try these ports, one after the other.
func OnPorts(o Options, ports ...int) Options {
	o.ports = func() (int, error) {
		port := ports[0]
		ports = ports[1:]
		return port, nil
	}
	return o
}

// FreePort is a port that nothing listens at.
func FreePort() (int, error) { return freePort() }

// CommandLine is that of a process; "" when it has ended.
func CommandLine(pid int) string { return background.CommandLine(context.Background(), pid) }

// FindJava is the program to run.
func FindJava() (string, error) { return findJava() }
