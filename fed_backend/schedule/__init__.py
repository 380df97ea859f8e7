"""When rounds run, and who keeps everything running: timetable, configuration file, supervisor."""
