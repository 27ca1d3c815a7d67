-- What S3 does to a record beyond Fluent Bit's own filters: take out secrets, give the level one spelling.

local function redact(text)
    text = text:gsub("(Bearer%s+)[%w%.~+/=_-]+", "%1[REDACTED:token]")
    text = text:gsub("([Pp]assword%s*[=:]%s*)%S+", "%1[REDACTED:secret]")
    text = text:gsub("([Ss]ecret%s*[=:]%s*)%S+", "%1[REDACTED:secret]")
    text = text:gsub("[%w%._+-]+@[%w-]+%.[%w%.-]+", "[REDACTED:email]")
    text = text:gsub("%d%d%d%d[ -]?%d%d%d%d[ -]?%d%d%d%d[ -]?%d%d%d%d", "[REDACTED:card]")
    return text
end

local LEVELS = { WARN = "WARNING", FATAL = "CRITICAL", CRIT = "CRITICAL" }

function chain(tag, timestamp, record)
    if type(record.message) == "string" then
        record.message = redact(record.message)
    end
    if type(record.log_level) == "string" then
        local level = record.log_level:upper()
        record.log_level = LEVELS[level] or level
    end
    return 2, timestamp, record
end
