# What the scripts of these tests share: a program at a terminal of its own, and what that shows.
import fcntl, os, pty, signal, struct, sys, termios, time
signal.alarm(90)
def start(words, rows=24):
    """Starts a program; gives its number, our end of the terminal, and the terminal's settings before it."""
    end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
    before = termios.tcgetattr(terminal)
    child = os.fork()
    if child == 0:
        # What starts the tests in the background has it ignored, and programs inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for descriptor in range(3):
            os.dup2(terminal, descriptor)
        os.execv(words[0], words)
    os.close(terminal)
    return child, end, before
def until(end, wanted):
    """What is shown up to the words that are waited for."""
    shown = b""
    while wanted not in shown:
        shown += os.read(end, 4096)
    return shown
def hidden(end):
    """Waits until what is typed is not shown any more."""
    while termios.tcgetattr(end)[3] & termios.ECHO:
        time.sleep(0.01)
def rest(end):
    """What is shown until the program has closed its end."""
    shown = b""
    try:
        while piece := os.read(end, 4096):
            shown += piece
    except OSError:
        pass  # that is how a terminal says it
    return shown
def code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
