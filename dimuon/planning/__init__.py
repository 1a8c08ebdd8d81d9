"""What an analysis will cost before it is done: sizes of its inputs, speeds of this machine, work of each step."""
