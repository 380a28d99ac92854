# Four shards of one list. Build the image with deploy/Containerfile, push it to where the clients get their images, and
# write its name below. Write the servers to the file `servers`, one a line:
#
#     nomad var put nomad/jobs/tcpcore servers=@servers
#     nomad job run tcpcore.nomad.hcl
#
# After a change of the list, put it again, with -force. It restarts nothing.
variable "shards" {
  type    = number
  default = 4
}

job "tcpcore" {
  type = "service"

  group "shard" {
    count = var.shards

    network {
      mode = "host"
      port "status" {}
    }

    # One shard after the other. A canary would have the index of a shard that runs.
    update {
      max_parallel     = 1
      canary           = 0
      health_check     = "checks"
      min_healthy_time = "5s"
    }

    # At first in place, then on another client.
    restart {
      attempts = 3
      interval = "1m"
      delay    = "1s"
      mode     = "fail"
    }

    reschedule {
      delay          = "5s"
      delay_function = "constant"
      unlimited      = true
    }

    service {
      name     = "tcpcore"
      provider = "nomad"
      port     = "status"

      check {
        type     = "http"
        path     = "/livez"
        interval = "10s"
        timeout  = "2s"

        check_restart {
          limit = 3
          grace = "10s"
        }
      }
    }

    task "tcpcore" {
      driver       = "docker"
      kill_timeout = "30s"

      config {
        image           = "tcpcore"
        network_mode    = "host"
        readonly_rootfs = true
        cap_drop        = ["all"]

        args = [
          "--shard", "auto",
          "--shard-by", "hash",
          "--servers-file", "${NOMAD_TASK_DIR}/servers",
          "--format", "json",
          "--status-addr", "${NOMAD_ADDR_status}",
        ]
      }

      # Nomad sets NOMAD_ALLOC_INDEX.
      env {
        TCPCORE_SHARDS = "${var.shards}"
      }

      # SIGHUP has the list read again.
      template {
        data          = "{{ with nomadVar \"nomad/jobs/tcpcore\" }}{{ .servers }}{{ end }}\n"
        destination   = "${NOMAD_TASK_DIR}/servers"
        change_mode   = "signal"
        change_signal = "SIGHUP"
      }

      resources {
        cpu    = 100
        memory = 256
      }

      logs {
        max_files     = 5
        max_file_size = 100
      }
    }
  }
}
