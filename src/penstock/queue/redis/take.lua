-- Takes messages: fresh ones, and those that were taken too long ago and never acknowledged.
--
-- KEYS[1] the queue's stream
-- ARGV[1] the group of all receivers (they are one consumer of it: who takes is of no account, only when)
-- ARGV[2] how many to take at most
-- ARGV[3] milliseconds after which a taken message comes again
-- ARGV[4] where the last sweep through the taken ones ended ('0-0': at their end)
-- ARGV[5] '1': sweep before anything fresh is read, so that a busy stream can't keep old messages waiting
--
-- Gives where this sweep ended, and then id, body, id, body ...

local stream, group, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local cursor, taken = ARGV[4], {'0-0'}
local SCANNED = 10000 -- entries that one sweep looks at: live ones in front can't hide idle ones for long

-- A stream that was never used, or was lost with all that the server held, has no group yet.
local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'NOGROUP', 1, true) then
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    reply = redis.pcall(...)
  end
  if type(reply) == 'table' and reply.err then
    error(reply)
  end
  return reply
end

local function left()
  return limit - (#taken - 1) / 2
end

local function add(entries)
  for _, entry in ipairs(entries) do
    if entry and entry[2] then -- false: deleted from the stream since
      taken[#taken + 1] = entry[1]
      taken[#taken + 1] = entry[2][2]
    end
  end
end

local function sweep()
  local passes = cursor == '0-0' and 1 or 2 -- what begins in the middle comes round
  for _ = 1, math.ceil(SCANNED / (10 * left())) do
    local reply = call('XAUTOCLAIM', stream, group, 'penstock', ARGV[3], cursor, 'COUNT', left())
    cursor = reply[1]
    add(reply[2])
    if cursor == '0-0' then
      passes = passes - 1
    end
    if left() == 0 or passes == 0 then
      return
    end
  end
end

local function read()
  local reply = call('XREADGROUP', 'GROUP', group, 'penstock', 'COUNT', left(), 'STREAMS', stream, '>')
  if reply then
    add(reply[1][2])
  end
end

local due = ARGV[5] == '1'
if due then
  sweep()
end
if left() > 0 then
  read()
end
if not due and left() > 0 then
  sweep()
end
taken[1] = cursor
return taken
