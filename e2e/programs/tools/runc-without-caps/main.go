// runc-without-caps runs runc on a machine whose bounding set lacks CAP_SYS_RESOURCE.
//
// A privileged container asks for every capability, and runc refuses one that the machine itself
// does not have. This wrapper takes that one capability out of the OCI spec (`create`, `run`) or
// out of the process file (`exec`), then becomes runc. OCTAVO_RUNC names the real runc; without
// it the first `runc` on PATH is used.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const missing = "CAP_SYS_RESOURCE"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runc-without-caps:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if path := specPath(arguments); path != "" {
		if err := rewrite(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	runc := os.Getenv("OCTAVO_RUNC")
	if runc == "" {
		found, err := exec.LookPath("runc")
		if err != nil {
			return err
		}
		runc = found
	}
	return syscall.Exec(runc, append([]string{"runc"}, arguments...), os.Environ())
}

// specPath returns the JSON file that this runc command reads its capabilities from, or "".
func specPath(arguments []string) string {
	command, bundle, process := "", ".", ""
	for i, argument := range arguments {
		name, value, joined := strings.Cut(argument, "=")
		if !joined && i+1 < len(arguments) {
			value = arguments[i+1]
		}
		switch name {
		case "create", "run", "exec":
			if command == "" {
				command = argument
			}
		case "--bundle", "-b":
			bundle = value
		case "--process", "-p":
			process = value
		}
	}
	switch command {
	case "create", "run":
		return filepath.Join(bundle, "config.json")
	case "exec":
		return process
	}
	return ""
}

// rewrite replaces the file only when the capability is in it, and never leaves half a file.
func rewrite(path string) error {
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), missing) {
		return err
	}
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber() // seccomp masks and limits exceed what a float holds
	if err := decoder.Decode(&document); err != nil {
		return err
	}
	process := document
	if inner, isSpec := document["process"].(map[string]any); isSpec {
		process = inner
	}
	if sets, ok := process["capabilities"].(map[string]any); ok {
		for name, set := range sets {
			if list, ok := set.([]any); ok {
				sets[name] = without(list)
			}
		}
	}
	changed, err := json.Marshal(document)
	if err != nil {
		return err
	}
	temporary := path + ".without-caps"
	if err := os.WriteFile(temporary, changed, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func without(list []any) []any {
	kept := make([]any, 0, len(list))
	for _, capability := range list {
		if capability != missing {
			kept = append(kept, capability)
		}
	}
	return kept
}
