package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// crashVariable makes this program fill a braid database and then wait to be killed. Its value
// is the number of records; the directory is the only argument.
const crashVariable = "BRAID_BENCH_CRASH"

// fillAndDie starts a process that fills the database in dir, and kills it.
func fillAndDie(dir string, records int) (err error) {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, dir)
	cmd.Env = append(os.Environ(), crashVariable+"="+strconv.Itoa(records))
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err == nil && line != "filled\n" {
		err = fmt.Errorf("the filling process printed %q", line)
	}
	err = errors.Join(err, cmd.Process.Kill())
	_ = cmd.Wait() // its error says that it was killed
	return err
}

// fillAndWait is the main function of that process. It returns only if filling fails.
func fillAndWait(records string, args []string) error {
	n, err := strconv.Atoi(records)
	if err != nil || len(args) != 1 {
		return fmt.Errorf("%s=%q with arguments %q", crashVariable, records, args)
	}
	st, err := openBraid(args[0], openSettings)
	if err != nil {
		return err
	}
	if err := fill(st, newValues(kib), int64(n)*kib); err != nil {
		return err
	}
	fmt.Println("filled")
	select {}
}
