"""A network and a process table of one's own: what runs there, runs on loopback only, and ends with this program."""
import os, signal, subprocess, sys


def enter(mark):
    """Goes on in namespaces of its own; `mark` is the variable that says that it does. Needs root."""
    if os.environ.get(mark) != "1":
        # With the first process everything ends that was started in the namespace.
        inside = ["unshare", "--net", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
        os.environ[mark] = "1"
        os.execvp(inside[0], inside + [sys.executable, *sys.argv])
    become_parent_of_orphans()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def become_parent_of_orphans():
    """The first process of a namespace has to take leave of those whose parents have gone, or they seem to live on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(os.waitstatus_to_exitcode(status) & 255)
