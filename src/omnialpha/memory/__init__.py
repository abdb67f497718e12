"""How much memory a call takes, and the ways to make it take less.

| module | |
| --- | --- |
| ``plans`` | the ways to hold the weights |
| ``architecture`` | what a checkpoint's configurations say: a pipeline without weights |
| ``shapes`` | runs it on shapes alone and counts bytes and operations |
| ``trace`` | a call, and what it takes beside the weights |
| ``weights`` | what the weights take, as each plan holds them |
| ``machine`` | what the device has free, and how fast it is |
| ``forecast`` | all of these together: peak memory and time of each plan; the fastest that fits |
| ``apply`` | carries a plan out while a checkpoint is opened |
"""
