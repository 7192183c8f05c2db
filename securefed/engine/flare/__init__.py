"""NVIDIA FLARE under a federation: it carries bytes, starts processes, and decides nothing.

    ports         the server's port, and whether it is free
    places        where an engine's files lie below a site's or a server's folder
    provisioning  keys made where they belong, a request, an approval, a kit
    hardening     what FLARE may do at a site, cut down to what is needed
    validity      a certificate, by this machine's clock
    processes     FLARE's own programs, and the job that they run
    controller    in the server's job: hands the transport to `securefed.server.federation`
    executor      in a hospital's job: hands bytes to `securefed.hospital.member`
    transport     the seam: a stage's bytes over auxiliary messages
    launcher      a hospital's job that dies is a dropout, not the end of everybody's

What the trial taught is in docs/decisions/0034. Only this folder imports nvflare.
"""
