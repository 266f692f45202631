"""What doorbell and panel decide: pure. Presses, calls and time in; effects out."""
