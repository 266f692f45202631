"""What wakes a board that is not there."""

WAKEUP_ALL_LOW = False


def wake_on_ext0(pin, level):
    print("wakes by a press")
