module octavo.dev/tools/runc-without-caps

go 1.26.0
